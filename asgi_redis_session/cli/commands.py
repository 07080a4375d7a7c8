"""All commands, written with typer and rich (the extra `cli`)."""

import typer

from .bench import bench
from .demo import demo
from .examine import doctor, plain
from .gateway import gateway
from .seed import seed
from .sessions import count, list_, revoke, show
from .watch import watch

__all__ = ["commands"]

# A traceback never shows variables, because one may hold a URL with a password.
commands = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_show_locals=False
)


@commands.callback()
def main() -> None:
    """Server-side sessions in Redis: examine, count, show and end them; answer a proxy."""


for command in (doctor, count, show, revoke, watch, seed, bench, plain, gateway, demo):
    commands.command()(command)
commands.command("list")(list_)

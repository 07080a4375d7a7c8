"""All commands, written with typer and rich (the extra `cli`)."""

from collections.abc import Callable

import typer

from ..pages import page
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
    add_completion=False,
    epilog=page("cli/"),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@commands.callback()
def main() -> None:
    """Server-side sessions in Redis: examine, count, show and end them; answer a proxy."""


#: The page about each command, which its help leads to; and an error of usage leads to the help.
_PAGES: dict[Callable[..., None], str] = {
    doctor: "deployment/",
    **dict.fromkeys((count, list_, show, revoke, watch, seed, bench, demo), "cli/"),
    plain: "encryption/",
    gateway: "gateways/",
}
for command, about in _PAGES.items():
    commands.command(command.__name__.rstrip("_"), epilog=page(about))(command)

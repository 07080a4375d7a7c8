"""The command that runs the demo."""

from typing import Annotated

import typer

from ..devserver import DevServerError
from ..pages import explained

_Redis = Annotated[
    str | None,
    typer.Option(
        "--redis", envvar="REDIS_URL", help="as SessionStore.from_url takes it; else a private one"
    ),
]


def demo(
    redis: _Redis = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="8000, or free ones if it is taken")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=8, help="how many serve the shop, each on a port of its own")
    ] = 2,
) -> None:
    """Run a small shop, to see what a session is: docs/cli.md."""
    from ..demo.app import make_app  # noqa: PLC0415  (of the extra `demo`)
    from ..demo.running import run  # noqa: PLC0415

    try:
        run(make_app, redis, port=port, processes=processes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except (DevServerError, OSError) as error:
        typer.echo(explained(error), err=True)
        raise typer.Exit(1) from None

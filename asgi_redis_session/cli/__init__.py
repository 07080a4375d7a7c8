"""The command `asgi-redis-session`. Needs the extra `cli`, and says so if it is missing."""

import sys
from typing import NoReturn

__all__ = ["app"]


def app() -> None:
    """Run the command."""
    try:
        from .commands import commands  # noqa: PLC0415  (imports what may be missing)
    except ModuleNotFoundError as error:
        _require(error, "cli")
    try:
        commands()
    except ModuleNotFoundError as error:
        _require(error, "gateway")


def _require(error: ModuleNotFoundError, extra: str) -> NoReturn:
    if error.name not in ("rich", "typer", "uvicorn"):
        raise error
    sys.exit(
        f"asgi-redis-session needs {error.name}, which is not installed: run "
        f"`pip install 'asgi-redis-session[{extra}]'`."
    )

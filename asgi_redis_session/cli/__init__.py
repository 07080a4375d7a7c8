"""The command `asgi-redis-session`. Needs the extra `cli`, and says so if it is missing."""

import sys

__all__ = ["app"]


def app() -> None:
    """Run the command."""
    try:
        from .commands import commands  # noqa: PLC0415  (imports what may be missing)
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(
            f"asgi-redis-session needs {error.name}, which is not installed: run "
            "`pip install 'asgi-redis-session[cli]'`."
        )
    commands()

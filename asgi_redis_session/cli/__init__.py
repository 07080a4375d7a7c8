"""The command `asgi-redis-session`. Needs the extra `cli`, and says so if it is missing."""

import sys

__all__ = ["app"]

#: Which extra brings a package that may be missing.
_EXTRAS = {
    "rich": "cli",
    "typer": "cli",
    "uvicorn": "gateway",
    "httpx": "bench",
    "fastapi": "demo",
    "jinja2": "demo",
}


def app() -> None:
    """Run the command."""
    try:
        from .commands import commands  # noqa: PLC0415  (imports what may be missing)

        commands()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        sys.exit(
            f"asgi-redis-session needs {error.name}, which is not installed: run "
            f"`pip install 'asgi-redis-session[{extra}]'`."
        )

"""The command that answers proxies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..cookie import CookiePolicy
from ..gateway import ForwardAuth
from ..options import Lifetime
from ..store import SessionStore
from .common import Prefix, Redis

_URI_HEADER = "X-Forwarded-Uri"


def gateway(  # noqa: PLR0917  (typer calls it with keywords)
    redis: Redis,
    cookie: Annotated[str, typer.Option(help="the name of the app's cookie")] = "__Host-session",
    prefix: Prefix = "session",
    secret_file: Annotated[
        Path | None, typer.Option(help="the store's secrets, one in each line, the newest first")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(help="the store's idle time in seconds, if it is not 1800")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="another header: X-Session-Plan=plan")
    ] = None,
    encryption: Annotated[
        str | None, typer.Option(help="the store's encryption: read, migrate or true")
    ] = None,
    plain: Annotated[list[str] | None, typer.Option(help="a field of the store's plain=")] = None,
    login_url: Annotated[str | None, typer.Option(help="where to send a browser")] = None,
    uri_header: Annotated[str, typer.Option(help="what the proxy calls the path")] = _URI_HEADER,
    host: Annotated[str, typer.Option(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen")] = 9000,
) -> None:
    """Answer a proxy that asks whose request this is: docs/gateways.md."""
    import uvicorn  # noqa: PLC0415  (of the extra `gateway`)

    try:
        lifetime = Lifetime() if idle is None else Lifetime(idle=idle)
        secret = None if secret_file is None else secret_file.read_text().split()
        store = SessionStore.from_url(
            redis,
            prefix=prefix,
            secret=secret,
            lifetime=lifetime,
            encryption=_step(encryption),
            plain=plain or (),
        )
        app = ForwardAuth(
            store,
            cookie=CookiePolicy(name=cookie),
            fields=dict(_pair(text) for text in field or ()),
            idle_is_known=idle is not None,
            login_url=login_url,
            uri_header=uri_header,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False)


def _step(encryption: str | None) -> Any:
    """Return the store's option: it refuses what it does not know."""
    return {None: False, "true": True}.get(encryption, encryption)


def _pair(text: str) -> tuple[str, str]:
    header, mark, field = text.partition("=")
    if not mark:
        raise ValueError(f"--field {text}: give a header and a field, as in X-Session-Plan=plan.")
    return header, field

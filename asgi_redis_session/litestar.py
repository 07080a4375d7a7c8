"""Litestar: a plugin that adds the middleware, closes the store, and injects the session."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

from litestar.config.app import AppConfig
from litestar.di import NamedDependency, Provide
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin
from litestar.types import Scope

from .arguments import shown
from .cookie import CookiePolicy
from .cross_origin import CrossOriginPolicy
from .exchange import ASGIApp, Refresh
from .header import HeaderPolicy
from .middleware import SessionMiddleware
from .session import Session
from .store import SessionStore

__all__ = ["SessionDep", "SessionPlugin", "load_session"]

SessionDep: TypeAlias = NamedDependency[Session]
"""
`NamedDependency[Session]`: declare the parameter `session` with this type to get it loaded.

    @get("/cart")
    async def cart(session: SessionDep) -> list[str]:
        return session.get("cart", [])
"""


class SessionPlugin(InitPlugin):
    """
    Sessions for a Litestar app.

        app = Litestar([cart], plugins=[SessionPlugin(store="redis://localhost:6379/0")])

    It adds `SessionMiddleware` outside of the app's own middleware, closes the store at the end of
    the lifespan, and injects the loaded session where a handler or dependency declares
    `session: SessionDep`. *dependency*: the name of that parameter; None: that of *key*. The other
    arguments are those of `SessionMiddleware`, and are refused in the same way.
    """

    def __init__(
        self,
        *,
        store: SessionStore | str,
        cookie: CookiePolicy | Callable[[Any], CookiePolicy] | None = CookiePolicy(),  # noqa: B008
        autoload: bool | Callable[[Any], bool | Awaitable[bool]] = False,
        refresh: Refresh | Callable[[Any], Refresh] = "request",
        unavailable: Literal["fail", "anonymous"] | ASGIApp = "fail",
        cross_origin: Literal["allow", "refuse"] | CrossOriginPolicy = "allow",
        trusted_origins: Sequence[str] = (),
        bind: Callable[[Any], str] | None = None,
        on_bind_change: Literal["end", "login"] = "end",
        dependency: str | None = None,
        key: str = "session",
        carrier: HeaderPolicy | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "cookie": cookie,
            "autoload": autoload,
            "refresh": refresh,
            "unavailable": unavailable,
            "cross_origin": cross_origin,
            "trusted_origins": trusted_origins,
            "bind": bind,
            "on_bind_change": on_bind_change,
            "key": key,
            "carrier": carrier,
        }
        # Made once here, so that a wrong argument is refused, and a URL makes one store.
        self.store = SessionMiddleware(_nothing, store=store, **self._options).store
        dependency = key if dependency is None else dependency
        if not (isinstance(dependency, str) and dependency.isidentifier()):
            raise ValueError(
                f"SessionPlugin(dependency={shown(dependency)}): give the name of a parameter."
            )
        self._dependency = dependency
        self._load = load_session if key == "session" else _loader(key)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Called by Litestar when the app is made."""
        middleware = DefineMiddleware(SessionMiddleware, store=self.store, **self._options)
        app_config.middleware = [middleware, *app_config.middleware]
        app_config.dependencies[self._dependency] = Provide(self._load)
        app_config.signature_types = [*app_config.signature_types, Session]
        app_config.on_shutdown = [*app_config.on_shutdown, self.store.aclose]
        return app_config


async def load_session(scope: Scope) -> Session:
    """
    Return the session of a request or WebSocket, loaded. The plugin injects it.

    Raises `SessionUnavailable`.
    """
    return await _session_at(scope, "session").load()


def _loader(key: str) -> Callable[..., Awaitable[Session]]:
    async def load(scope: Scope) -> Session:
        return await _session_at(scope, key).load()

    return load


def _session_at(scope: Scope, key: str) -> Session:
    session = cast("dict[str, Any]", scope).get(key)
    if not isinstance(session, Session):
        raise TypeError("The session in the scope is none of asgi_redis_session.")
    return session


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """The app while there is none yet."""

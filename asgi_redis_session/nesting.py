"""
Several session middlewares around one app: which of them is used, and which must not be combined.

Each of ours notes itself in the scope, under the key of its session. So an inner one finds those
outside of it.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

from .arguments import shown
from .carrier import Carrier
from .engine.engine import Engine
from .once import first_time
from .records import about

__all__ = ["LAYER", "Layer", "beside", "checked_key", "joins", "warn_of_other"]

logger = logging.getLogger("asgi_redis_session")

#: Where in the scope the last layer is through which a request has passed.
LAYER = "session.middleware"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
#: What ASGI, Starlette and Litestar have in the scope.
_OF_OTHERS = frozenset(
    {
        *("type", "asgi", "http_version", "server", "client", "scheme", "root_path", "path"),
        *("raw_path", "query_string", "headers", "subprotocols", "method", "state", "extensions"),
        *("app", "router", "route", "endpoint", "path_params", "user", "auth"),
        *("litestar_app", "route_handler", "path_template", "parsed_body"),
    }
)


class Layer:
    """
    One session middleware, as a request passes through it.

    *key*: where in the scope its session is. *carrier*: how the id travels; `marks` are those of
    it. *outer*: the layer around this one.
    """

    __slots__ = ("carrier", "engine", "key", "marks", "outer")

    def __init__(
        self, key: str, engine: Engine, carrier: Carrier, outer: "Layer | None" = None
    ) -> None:
        self.key = key
        self.engine = engine
        self.carrier = carrier
        self.marks = carrier.marks
        self.outer = outer


def checked_key(option: str, key: object) -> str:
    """Return a key that is free for a session. Raises `ValueError`."""
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key in _OF_OTHERS:
        raise ValueError(
            f"{option}: {shown(key)} is no key for a session. Give a name such as 'admin_session', "
            "and none that ASGI or a framework uses in the scope itself."
        )
    return key


def joins(scope: Mapping[str, Any], inner: Layer) -> bool:
    """
    Whether the inner middleware uses the session of one outside of it.

    Raises `RuntimeError` if the two can't be together.
    """
    claims, outer = inner.carrier.claims, None
    other: Layer | None = scope.get(LAYER)
    while other is not None:
        if other.key == inner.key:
            outer = outer or other
        elif shared := [each for each in claims if each in other.carrier.claims]:
            raise RuntimeError(
                f"Two SessionMiddleware, with the keys {other.key!r} and {inner.key!r}, both have "
                f"their ids in {shared[0]}: give each CookiePolicy or HeaderPolicy a name of its "
                "own."
            )
        other = other.outer
    if outer is None:
        if inner.key in scope:
            warn_of_other(scope[inner.key], "outside")
        return False
    if outer.engine is inner.engine:
        ours, others = inner.carrier, outer.carrier
        if (ours.cookie, ours.header) == (others.cookie, others.header):
            return True
        if not {*claims} & {*others.claims}:
            return False
    raise RuntimeError(
        "Two SessionMiddleware, one inside the other, have different stores, or different "
        f"policies for {claims[0]}. Remove the inner one, or give both the same SessionStore and "
        "CookiePolicy. For a mounted app with sessions of its own, give it the same SessionStore "
        "and a cookie with another name, or another key."
    )


def beside(scope: MutableMapping[str, Any], inner: Layer) -> tuple[MutableMapping[str, Any], Layer]:
    """
    Return scope and layer for an inner middleware with sessions of its own.

    If there is another session at its key, the scope is a copy, so that the outer one keeps that.
    """
    layer = Layer(inner.key, inner.engine, inner.carrier, scope.get(LAYER))
    return {**scope} if inner.key in scope else scope, layer


def warn_of_other(found: object, where: Literal["inside", "outside"]) -> None:
    """Say once per process that another middleware has its own session in the scope."""
    name = f"{type(found).__module__}.{type(found).__qualname__}"
    if first_time("other middleware", name):
        logger.warning(
            "Another session middleware, %s of the one of asgi_redis_session, has put a %s into "
            "the scope. Each is left alone, and the app sees that of the inner one. Remove one of "
            "the two, or, if a mounted app has sessions of its own, give their cookies different "
            "names.",
            *(where, name),
            extra=about("other_middleware", found=name),
        )

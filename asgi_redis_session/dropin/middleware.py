"""The middleware: Starlette's arguments, and sessions of other middleware that are taken over."""

import hmac
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

from ..arguments import refuse_other, shown
from ..cookie import CookiePolicy
from ..cross_origin import CrossOriginPolicy
from ..engine import actions
from ..engine.codec import encode, encode_as_json
from ..engine.mirror import stored_name
from ..engine.phases import NEW
from ..engine.record import Span
from ..engine.state import SessionState
from ..errors import SessionUnavailable, SessionValueError
from ..exchange import ASGIApp, Scope
from ..middleware import SessionMiddleware as _SessionMiddleware
from ..middleware import text_of
from ..pages import see
from ..records import about
from ..store import SessionStore
from .cookie import cookie_of
from .imports import Found, Library, OtherLibrary, SignedCookies
from .session import LIMITS, DictState, Rules, Session

__all__ = ["RENEW_ON", "SessionMiddleware"]

logger = logging.getLogger("asgi_redis_session")

RENEW_ON: frozenset[str] = frozenset(
    {
        *("user", "user_id", "userid", "uid", "_user_id", "_auth_user_id", "id", "sub"),
        *("username", "user_name", "userinfo", "user_info", "email", "login", "identity"),
        *("account", "account_id", "auth", "authenticated", "is_authenticated", "logged_in"),
        *("token", "access_token", "id_token"),
        *("admin", "admin_id", "is_admin", "role", "roles", "scopes"),
    }
)
"""Fields that identify the user, or say what they may do: when one changes, the id does."""

_FORTNIGHT = 14 * 24 * 3600
_SHORT_SECRET = 16


class SessionMiddleware(_SessionMiddleware):
    """
    Starlette's `SessionMiddleware`, with the data in Redis.

    The arguments up to *partitioned* are Starlette's, with their meanings and defaults.
    *https_only* and *domain* may also be functions of the scope, for a cookie that is `Secure`
    over HTTPS only, or a domain per tenant. Beyond the cookie, *max_age* is how long a session
    lives without use; None: as the store says, and the cookie ends with the browser.
    *store*: a Redis URL, or a `SessionStore`. *secret_key* is the secret of a store that is made
    from a URL; a given `SessionStore` keeps its own.
    *import_cookies*: whether signed cookies of Starlette's middleware are taken over, so that
    all users stay logged in. Or an aware datetime: those that were signed before. Meanwhile our
    cookie is named `<session_cookie>_id`, because processes of the old version overwrite theirs.
    *import_from*: other libraries whose sessions in the same Redis are taken over:
    `Starsessions()`, `FastAPIRedisSDK()` or `LitestarSessions()`.
    *renew_on*: names of fields that identify the user. When one of them appears or changes, the
    session gets a new id, so that an id that was planted before the login is worth nothing.
    *values*: `"json"`, values become what JSON makes of them, as in Starlette (a tuple becomes a
    list); `"exact"`, what would come back different is refused.
    *unavailable*, *cross_origin*, *trusted_origins*: as in `asgi_redis_session.SessionMiddleware`.
    A cookie that could be taken over counts as the session's.

    The session is loaded before the app runs. Raises `TypeError` or `ValueError` for unusable
    arguments, and `ImportError` if *import_cookies* needs a package.
    """

    def __init__(  # noqa: PLR0917  (Starlette's signature)
        self,
        app: ASGIApp,
        secret_key: Any,
        session_cookie: str = "session",
        max_age: int | None = _FORTNIGHT,
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool | Callable[[Scope], bool] = False,  # noqa: FBT001, FBT002
        domain: str | Callable[[Scope], str | None] | None = None,
        partitioned: bool = False,  # noqa: FBT001, FBT002
        *,
        store: SessionStore | str,
        import_cookies: bool | datetime = False,
        import_from: Library | Iterable[Library] = (),
        renew_on: Iterable[str] = RENEW_ON,
        values: Literal["json", "exact"] = "json",
        unavailable: Literal["fail", "anonymous"] | ASGIApp = "fail",
        cross_origin: Literal["allow", "refuse"] | CrossOriginPolicy = "allow",
        trusted_origins: Sequence[str] = (),
    ) -> None:
        secret = str(secret_key)
        _refuse_nonsense(secret, session_cookie, max_age, import_cookies, values)
        renew_on = frozenset(_names(renew_on))
        libraries = _libraries(import_from)
        self._sources: list[SignedCookies | OtherLibrary] = [
            OtherLibrary(library, secret) for library in libraries
        ]
        if import_cookies:
            before = import_cookies if isinstance(import_cookies, datetime) else None
            self._sources.append(SignedCookies(secret, session_cookie, max_age, before))
        cookie = cookie_of(
            session_cookie,
            https_only,
            domain,
            is_moving=bool(self._sources),
            path=path,
            same_site=same_site,
            partitioned=partitioned,
            seconds=max_age,
        )
        super().__init__(
            app,
            store=_store_of(store, secret),
            cookie=cookie,
            autoload=True,
            unavailable=unavailable,
            cross_origin=cross_origin,
            trusted_origins=trusted_origins,
        )
        span = self._engine.span
        if max_age is not None:
            span = Span(max(1, max_age * 1000), None)
        rules = Rules(
            span=span,
            renew_on=frozenset(stored_name(name) for name in renew_on),
            to_bytes=encode_as_json if values == "json" else encode,
            max_age_ms=None if max_age is None else max_age * 1000,
        )
        self._make_state = partial(DictState, rules)

    @staticmethod
    def _session_of(state: DictState) -> Session:
        return state.session

    def _has_cookie(self, cookie: CookiePolicy, headers: Any) -> bool:
        is_ours = super()._has_cookie(cookie, headers)
        return is_ours or any(one.is_in(headers) for one in self._sources)

    async def _load(self, state: SessionState) -> None:
        await actions.load(state)
        if self._sources and state.phase is NEW and not state.conflicting:
            try:
                await self._take_over(state)
            except SessionUnavailable as error:
                state.do_without(error)

    async def _take_over(self, state: SessionState) -> None:
        """Go on with a session of another middleware, if the request has brought one."""
        headers = state.peer[1]
        for source in self._sources:
            found = await source.find(self._engine, headers)
            if found is None:
                continue
            if found.fields is None:  # deleted: a parallel request may have taken it over
                if await actions.go_on_as(state, found.session_id):
                    return
                continue
            fields = _encoded(found)
            if fields and await actions.take_over(state, found.session_id, fields, found.lasts_ms):
                if found.key is not None:
                    self._engine.hashes.drop_soon(found.key)
                return


def _encoded(found: Found) -> dict[str, bytes]:
    """Return the fields as they are stored; empty if they can't be."""
    try:
        return {
            stored_name(name): encode_as_json(value) for name, value in (found.fields or {}).items()
        }
    except SessionValueError as error:
        logger.warning(
            "A session of another middleware was not taken over: %s",
            error,
            extra=about("not_taken_over", reason=str(error)),
        )
        return {}


def _store_of(store: SessionStore | str, secret_key: str) -> SessionStore | str:
    """Make a store of a URL, with the app's secret as its own."""
    store = text_of(store)
    if not isinstance(store, str):
        return store
    # Derived, because the store's secret must have a length, and no other use.
    secret = hmac.digest(secret_key.encode(), b"asgi-redis-session: keys in Redis", "sha256").hex()
    return SessionStore.from_url(store, secret=secret, limits=LIMITS)


def _libraries(given: object) -> list[Library]:
    """Return *import_from* as a list."""
    libraries = [given] if isinstance(given, Library) else given
    if isinstance(libraries, list | tuple) and all(isinstance(one, Library) for one in libraries):
        return list(libraries)
    raise TypeError(
        "SessionMiddleware(import_from=...) takes Starsessions(), FastAPIRedisSDK(), "
        f"LitestarSessions(), or a list of them, not {shown(given)}."
    )


def _names(given: object) -> list[str]:
    """Return *renew_on* as a list. A single name would be taken for its letters."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        names = list(given)
        if all(isinstance(name, str) for name in names):
            return names
    raise TypeError(
        f"SessionMiddleware(renew_on=...) takes a list of names of fields, not {shown(given)}."
    )


def _refuse_nonsense(
    secret: str, session_cookie: object, max_age: object, import_cookies: object, values: object
) -> None:
    if not secret:
        raise ValueError("SessionMiddleware(secret_key=...) is empty. Give it a random text.")
    if len(secret) < _SHORT_SECRET:
        warnings.warn(
            f"SessionMiddleware(secret_key=...) has fewer than {_SHORT_SECRET} characters, so it "
            "can be guessed. Make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`. "
            f"{see('secret_too_short')}",
            stacklevel=3,
        )
    refuse_other("SessionMiddleware(session_cookie)", session_cookie, str, "a name")
    if max_age is not None and (type(max_age) is not int):
        raise TypeError(
            f"SessionMiddleware(max_age={shown(max_age)}): give whole seconds, or None for a "
            "cookie that ends with the browser."
        )
    refuse_other(
        "SessionMiddleware(import_cookies)",
        import_cookies,
        bool | datetime,
        "True, False or an aware datetime",
    )
    if isinstance(import_cookies, datetime) and import_cookies.tzinfo is None:
        raise ValueError(
            f"SessionMiddleware(import_cookies={import_cookies!r}): give an aware datetime, such "
            "as datetime(2027, 1, 31, tzinfo=UTC)."
        )
    if not isinstance(values, str) or values not in ("json", "exact"):
        raise ValueError(f"SessionMiddleware(values={shown(values)}): use 'json' or 'exact'.")

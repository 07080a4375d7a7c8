"""
Starlette's `SessionMiddleware` with the data in Redis: one changed import, one added argument.

    from asgi_redis_session.dropin import SessionMiddleware

    app.add_middleware(SessionMiddleware, secret_key=..., store="redis://localhost:6379/0")

`request.session` is a dict, as there. The verbs of `asgi_redis_session.Session` are not on it: an
app that wants them uses `asgi_redis_session.SessionMiddleware`.
"""

import hmac
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, SupportsIndex

from .cookie import CookieChange, CookiePolicy
from .engine import actions
from .engine.codec import StoredHash, encode, encode_as_json
from .engine.engine import Engine
from .engine.mirror import MirrorFields, stored_name
from .engine.record import Changes, Span
from .engine.state import NEW, STAND_IN, STORED, SessionState
from .errors import SessionUnavailable, SessionValueError
from .exchange import ASGIApp
from .imports import FastAPIRedisSDK, Foreign, Found, SignedCookies, Starsessions
from .middleware import SessionMiddleware as _SessionMiddleware
from .options import Limits
from .store import SessionStore

__all__ = ["RENEW_ON", "FastAPIRedisSDK", "Session", "SessionMiddleware", "Starsessions"]

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
"""Fields that say who somebody is or what they may do: when one changes, the id does."""

_FORTNIGHT = 14 * 24 * 3600
_SHORT_SECRET = 16
#: What a cookie can hold is no measure here, so these are four times those of a store.
_LIMITS = Limits(fields=1024, field_bytes=262_144, session_bytes=1_048_576)


class Session(dict[str, Any]):
    """
    `request.session`: a dict with storage of its own.

    It can do what Starlette's can. What has changed is found by comparing values when the response
    starts, so changes inside lists and dicts are saved, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_accessed = self._is_marked = False
        pairs = [
            part.encode() if isinstance(part, str) else part
            for name, value in dict.items(self)
            for part in (stored_name(name), encode_as_json(value))
        ]
        self._fields = MirrorFields(_LIMITS, {}, StoredHash(pairs), self, encode_as_json)

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, so that the response varies with the cookie."""
        return self._is_accessed or self.modified

    @property
    def modified(self) -> bool:
        """Whether there is something to write. Assigning True is the same as `mark_modified()`."""
        try:
            return self._is_marked or bool(self._fields.collect())
        except SessionValueError:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = bool(value)

    def mark_accessed(self) -> None:
        """Note that the app has used the session. Starlette's `request.session` calls it."""
        self._is_accessed = True

    def mark_modified(self) -> None:
        """Note a change, as in Starlette 1.0. Not needed: every change is noticed."""
        self._is_accessed = self._is_marked = True

    # Starlette before 1.0 does not call `mark_accessed`, so reading is noticed as well.

    def __getitem__(self, key: str) -> Any:
        self._is_accessed = True
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._is_accessed = True
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._is_accessed = True
        return super().__iter__()

    def __len__(self) -> int:
        self._is_accessed = True
        return super().__len__()

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return a value, or *default*."""
        self._is_accessed = True
        return super().get(key, default)

    def keys(self) -> Any:
        """Return the names."""
        self._is_accessed = True
        return super().keys()

    def values(self) -> Any:
        """Return the values."""
        self._is_accessed = True
        return super().values()

    def items(self) -> Any:
        """Return names and values."""
        self._is_accessed = True
        return super().items()

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[Any, ...]:
        return dict, (dict(self),)  # a copy belongs to no request


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What all sessions of a middleware have in common."""

    span: Span
    renew_on: frozenset[str]
    to_bytes: Any
    #: A cookie is sent again by a request that uses the session, if the last one is older.
    fresh_ms: int | None


class _State(SessionState):
    """A session that the app sees as a dict."""

    __slots__ = ("_rules", "session")
    reissues = True

    def __init__(
        self, rules: _Rules, engine: Engine, session_id: str | None, **of_request: Any
    ) -> None:
        self._rules = rules
        self.session = Session()
        super().__init__(engine, session_id, span=rules.span, **of_request)

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, or has changed it."""
        return self.session._is_accessed  # noqa: SLF001

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self.session._is_accessed = value  # noqa: SLF001

    @property
    def may_have_changes(self) -> bool:
        """True, because nothing watches the app's dict."""
        return self.fields is not self.engine.no_fields

    def replace_fields(self, stored: StoredHash) -> None:
        """Fill the app's dict with other fields."""
        self.fields = self.session._fields = MirrorFields(
            self.engine.limits,
            self.engine.shadows.checks,
            stored,
            self.session,
            self._rules.to_bytes,
        )

    def collect(self) -> Changes:
        """Return what has changed, and a new id if that says who somebody is."""
        changes = super().collect()
        if changes.fields:
            self.accessed = True
            if self.phase is STAND_IN:
                self.writable()  # raises
            if self.phase is STORED and self._identifies(changes.fields):
                self.refuse_new_id()
                changes.renews = True
        return changes

    def pop_cookie_change(self) -> CookieChange | None:
        """Return what the browser must be told, once; a cookie that has aged is sent again."""
        change = super().pop_cookie_change()
        if change is None and self.accessed and self._has_aged() and self.session_id is not None:
            change = CookieChange(self.session_id, is_new=False)
        return change

    def _identifies(self, fields: Mapping[str, bytes | None]) -> bool:
        return any(fields.get(name) is not None for name in self._rules.renew_on & fields.keys())

    def _has_aged(self) -> bool:
        record, fresh_ms = self.record, self._rules.fresh_ms
        if record is None or fresh_ms is None:
            return False
        metadata = record.metadata
        return record.now_ms - (metadata.seen_ms or metadata.created_ms) > fresh_ms


@dataclass(frozen=True, kw_only=True)
class _StarletteCookie(CookiePolicy):
    """
    A cookie as Starlette writes it.

    *seconds*: its Max-Age. *signed*: what makes the browser forget Starlette's own cookie; sent
    with a new id, or at the end. *former*: another name under which it is read.
    """

    seconds: int | None = None
    signed: tuple[bytes, ...] = ()
    former: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = [f"path={self.path}", "httponly", f"samesite={self.same_site}"]
        if self.secure:
            parts.append("secure")
        if self.domain is not None:
            parts.append(f"domain={self.domain}")
        if self.partitioned:
            parts.append("partitioned")
        object.__setattr__(self, "_attributes", "; ".join(parts).encode())
        if self.former is not None:
            former = CookiePolicy(name=self.former, secure=self.secure)
            object.__setattr__(self, "_renamed", (former,))

    def _is_former_read(self) -> bool:
        return True

    def headers_for(self, change: CookieChange | None) -> list[bytes]:
        """Return the `Set-Cookie` values that tell the browser of this change."""
        values = super().headers_for(change)
        if change is not None and (change.is_new or change.session_id is None):
            return [*self.signed, *values]
        return values

    def render(self, session_id: str, max_age_ms: int | None) -> bytes:  # noqa: ARG002
        """Return the `Set-Cookie` value that gives the browser this id."""
        age = b"" if self.seconds is None else b"Max-Age=%d; " % self.seconds
        return b"%b%b; %b%b" % (self._marker, session_id.encode(), age, self._attributes)

    def render_deletion(self) -> bytes:
        """Return the `Set-Cookie` value that makes the browser forget the cookie."""
        past = b"expires=Thu, 01 Jan 1970 00:00:00 GMT"
        return b"%bnull; %b; %b" % (self._marker, past, self._attributes)

    def _refuse_insecure(self, prefix: str) -> None:
        try:
            super()._refuse_insecure(prefix)
        except ValueError as error:  # Starlette accepts it, and some apps only run so in tests
            warnings.warn(f"{error} Give SessionMiddleware(https_only=True).", stacklevel=5)


class SessionMiddleware(_SessionMiddleware):
    """
    Starlette's `SessionMiddleware`, with the data in Redis.

    The arguments up to *partitioned* are Starlette's, with their meanings and defaults. Beyond the
    cookie, *max_age* is how long a session lives without use; None: as the store says, and the
    cookie ends with the browser.
    *store*: a Redis URL, or a `SessionStore`. *secret_key* is the secret of a store that is made
    from a URL; a given `SessionStore` keeps its own.
    *import_cookies*: whether signed cookies of Starlette's middleware are taken over, so that
    nobody is logged out. Or an aware datetime: those that were signed before. Meanwhile our cookie
    is named `<session_cookie>_id`, because processes of the old version overwrite theirs.
    *import_from*: other libraries whose sessions in the same Redis are taken over: `Starsessions()`
    or `FastAPIRedisSDK()`.
    *renew_on*: names of fields that say who somebody is. When one of them appears or changes, the
    session gets a new id, so that an id that was planted before the login is worth nothing.
    *values*: `"json"`, values become what JSON makes of them, as in Starlette (a tuple becomes a
    list); `"exact"`, what would come back different is refused.
    *unavailable*: as in `asgi_redis_session.SessionMiddleware`.

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
        https_only: bool = False,  # noqa: FBT001, FBT002  (Starlette's signature)
        domain: str | None = None,
        partitioned: bool = False,  # noqa: FBT001, FBT002
        *,
        store: SessionStore | str,
        import_cookies: bool | datetime = False,
        import_from: Starsessions | FastAPIRedisSDK | Iterable[Starsessions | FastAPIRedisSDK] = (),
        renew_on: Iterable[str] = RENEW_ON,
        values: Literal["json", "exact"] = "json",
        unavailable: Literal["fail", "anonymous"] | ASGIApp = "fail",
    ) -> None:
        secret = str(secret_key)
        _refuse_nonsense(secret, max_age, import_cookies, values)
        libraries = (
            [import_from]
            if isinstance(import_from, Starsessions | FastAPIRedisSDK)
            else list(import_from)
        )
        self._sources: list[SignedCookies | Foreign] = [
            Foreign(library, secret) for library in libraries
        ]
        if import_cookies:
            before = import_cookies if isinstance(import_cookies, datetime) else None
            self._sources.append(SignedCookies(secret, session_cookie, max_age, before))
        attributes: dict[str, Any] = {
            "path": path,
            "same_site": same_site,
            "secure": https_only,
            "domain": domain,
            "partitioned": partitioned,
            "seconds": max_age,
        }
        cookie = _StarletteCookie(name=session_cookie, former=f"{session_cookie}_id", **attributes)
        if self._sources:
            signed = cookie.render_deletion()
            name = f"{session_cookie}_id"
            cookie = _StarletteCookie(name=name, signed=(signed,), **attributes)
        super().__init__(
            app,
            store=_store_of(store, secret),
            cookie=cookie,
            autoload=True,
            unavailable=unavailable,
        )
        span = self._engine.span
        if max_age is not None:
            span = Span(max(1, max_age * 1000), None)
        rules = _Rules(
            span=span,
            renew_on=frozenset(stored_name(name) for name in renew_on),
            to_bytes=encode_as_json if values == "json" else encode,
            fresh_ms=None if max_age is None else max_age * 500,
        )
        self._make_state = partial(_State, rules)

    @staticmethod
    def _session_of(state: _State) -> Session:
        return state.session

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
                    self._engine.hashes.drop_foreign_soon(found.key)
                return


def _encoded(found: Found) -> dict[str, bytes]:
    """Return the fields as they are stored; empty if they can't be."""
    try:
        return {
            stored_name(name): encode_as_json(value) for name, value in (found.fields or {}).items()
        }
    except SessionValueError as error:
        logger.warning("A session of another middleware was not taken over: %s", error)
        return {}


def _store_of(store: SessionStore | str, secret_key: str) -> SessionStore | str:
    """Make a store of a URL, with the app's secret as its own."""
    if not isinstance(store, str):
        return store
    # Derived, because the store's secret must have a length, and no other use.
    secret = hmac.digest(secret_key.encode(), b"asgi-redis-session: keys in Redis", "sha256").hex()
    return SessionStore.from_url(store, secret=secret, limits=_LIMITS)


def _refuse_nonsense(secret: str, max_age: object, import_cookies: object, values: object) -> None:
    if not secret:
        raise ValueError("SessionMiddleware(secret_key=...) is empty. Give it a random text.")
    if len(secret) < _SHORT_SECRET:
        warnings.warn(
            f"SessionMiddleware(secret_key=...) has fewer than {_SHORT_SECRET} characters, so it "
            "can be guessed. Make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`.",
            stacklevel=3,
        )
    if max_age is not None and (type(max_age) is not int):
        raise TypeError(
            f"SessionMiddleware(max_age={max_age!r}): give whole seconds, or None for a cookie "
            "that ends with the browser."
        )
    if isinstance(import_cookies, datetime) and import_cookies.tzinfo is None:
        raise ValueError(
            f"SessionMiddleware(import_cookies={import_cookies!r}): give an aware datetime, such "
            "as datetime(2027, 1, 31, tzinfo=UTC)."
        )
    if values not in ("json", "exact"):
        raise ValueError(f"SessionMiddleware(values={values!r}): use 'json' or 'exact'.")

"""The cookie, written as Starlette writes it."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..arguments import refuse_no_function, refuse_other
from ..cookie import CookieChange, CookiePolicy, max_age_seconds
from ..pages import see

__all__ = ["StarletteCookie", "cookie_of"]

_Scope = Mapping[str, Any]
#: So many tenants' cookies are kept; that of one more is made again at each request.
_MOST_KEPT = 1024


@dataclass(frozen=True, kw_only=True)
class StarletteCookie(CookiePolicy):
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
        """Return the `Set-Cookie` values for this change."""
        values = super().headers_for(change)
        if change is not None and (change.is_new or change.session_id is None):
            return [*self.signed, *values]
        return values

    def render(
        self,
        session_id: str,
        max_age_ms: int | None,
        persistent: bool | None = None,  # noqa: FBT001
    ) -> bytes:
        """Return the `Set-Cookie` value that gives the browser this id."""
        # Only a login of the other middleware, on the same store, says what is to persist.
        seconds = self.seconds
        if persistent is not None:
            kept = max_age_seconds(max_age_ms) if seconds is None else seconds
            seconds = kept if persistent else None
        age = b"" if seconds is None else b"Max-Age=%d; " % seconds
        return b"%b%b; %b%b" % (self._assignment, session_id.encode(), age, self._attributes)

    def render_deletion(self) -> bytes:
        """Return the `Set-Cookie` value that makes the browser forget the cookie."""
        past = b"expires=Thu, 01 Jan 1970 00:00:00 GMT"
        return b"%bnull; %b; %b" % (self._assignment, past, self._attributes)

    def _refuse_insecure(self, prefix: str) -> None:
        try:
            super()._refuse_insecure(prefix)
        except ValueError as error:  # Starlette accepts it, and some apps only run so in tests
            warnings.warn(
                f"{error} Give SessionMiddleware(https_only=True). {see('cookie_prefix')}",
                stacklevel=5,
            )


def cookie_of(
    name: str,
    https_only: bool | Callable[[Any], bool],  # noqa: FBT001
    domain: str | Callable[[Any], str | None] | None,
    *,
    is_moving: bool,
    **attributes: Any,
) -> StarletteCookie | Callable[[_Scope], StarletteCookie]:
    """
    Return the cookie that Starlette's arguments describe.

    *https_only*, *domain*: values, or functions of the scope; then it is a function, too.
    *is_moving*: Starlette's own cookie is taken over, so that ours has another name.
    """

    def policy(secure: bool, domain: str | None) -> StarletteCookie:  # noqa: FBT001
        common = {**attributes, "secure": secure, "domain": domain}
        cookie = StarletteCookie(name=name, former=f"{name}_id", **common)
        if not is_moving:
            return cookie
        return StarletteCookie(name=f"{name}_id", signed=(cookie.render_deletion(),), **common)

    # Also made if a function will choose: it refuses what is unusable.
    cookie = policy(
        True if callable(https_only) else https_only, None if callable(domain) else domain
    )
    functions = {"https_only": https_only, "domain": domain}
    for option, given in functions.items():
        if callable(given):
            refuse_no_function(f"SessionMiddleware({option})", given, "a function of the scope")
    if not any(map(callable, functions.values())):
        return cookie
    kept = lru_cache(maxsize=_MOST_KEPT)(policy)

    def chosen(scope: _Scope) -> StarletteCookie:
        secure = https_only(scope) if callable(https_only) else https_only
        host = domain(scope) if callable(domain) else domain
        refuse_other("SessionMiddleware(https_only=function)", secure, bool, "True or False")
        refuse_other("SessionMiddleware(domain=function)", host, str | None, "a host name or None")
        return kept(secure, host)

    return chosen

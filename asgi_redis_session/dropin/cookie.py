"""The cookie, written as Starlette writes it."""

import warnings
from dataclasses import dataclass

from ..cookie import CookieChange, CookiePolicy

__all__ = ["StarletteCookie"]


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

    def render(self, session_id: str, max_age_ms: int | None) -> bytes:  # noqa: ARG002
        """Return the `Set-Cookie` value that gives the browser this id."""
        age = b"" if self.seconds is None else b"Max-Age=%d; " % self.seconds
        return b"%b%b; %b%b" % (self._assignment, session_id.encode(), age, self._attributes)

    def render_deletion(self) -> bytes:
        """Return the `Set-Cookie` value that makes the browser forget the cookie."""
        past = b"expires=Thu, 01 Jan 1970 00:00:00 GMT"
        return b"%bnull; %b; %b" % (self._assignment, past, self._attributes)

    def _refuse_insecure(self, prefix: str) -> None:
        try:
            super()._refuse_insecure(prefix)
        except ValueError as error:  # Starlette accepts it, and some apps only run so in tests
            warnings.warn(f"{error} Give SessionMiddleware(https_only=True).", stacklevel=5)

"""
An id in a header, for native apps and APIs: how it is read from a request, and how a response gives
the client a new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .arguments import shown
from .cookie import CookieChange, is_cookie_name, is_id

__all__ = ["HeaderPolicy"]

#: What a client sends in the place of an id, to be given one in a header.
_NEW = b"new"
#: What frames messages, or has a meaning for browsers and proxies.
_OF_OTHERS = frozenset({
    "cache-control", "connection", "content-length", "content-type", "cookie", "host", "location",
    "origin", "referer", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "vary",
    "www-authenticate",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderPolicy:
    """
    The headers that carry a session's id, for clients that keep no cookies: native apps and APIs.

        SessionMiddleware(app, store=store, carrier=HeaderPolicy())

    *name*: the request's header, and *scheme*: the word before the id, as in
    `Authorization: Bearer …` (RFC 6750); None: the header holds the id alone.
    *response*: the header of the response that holds a new id. It is there only when the id
    changes, and empty when the session has ended: then the client forgets the id.

    A client without an id sends the word `new` in its place. Without that, a new id is sent as a
    cookie, unless the middleware has none. What has not the form of an id is ignored, so other
    tokens may be sent under the same name.

    A script in a page can read headers, and a cookie it can't. So browsers should have the cookie,
    and a request that sends it never gets an id in a header.
    Raises `ValueError` for names that can't be used.
    """

    name: str = "Authorization"
    scheme: str | None = "Bearer"
    response: str = "Session-Id"
    _name: bytes = field(init=False, repr=False, compare=False)
    _response: bytes = field(init=False, repr=False, compare=False)
    _scheme: bytes | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for option, name in (("name", self.name), ("response", self.response)):
            if not is_cookie_name(name) or name.lower() in _OF_OTHERS:
                raise ValueError(
                    f"HeaderPolicy({option}={shown(name)}): give the name of a header that nothing "
                    "else uses, such as 'Session-Id'."
                )
        if self.name.lower() == self.response.lower() or self.response.lower() == "authorization":
            raise ValueError(
                f"HeaderPolicy(response={shown(self.response)}): give the response's header a name "
                "of its own, such as 'Session-Id'."
            )
        if self.scheme is None:
            if self.name.lower() == "authorization":
                raise ValueError(
                    "HeaderPolicy(scheme=None): an Authorization header begins with a scheme, such "
                    "as 'Bearer'. Keep the scheme, or give another name."
                )
        elif not is_cookie_name(self.scheme):
            raise ValueError(
                f"HeaderPolicy(scheme={shown(self.scheme)}): give a word such as 'Bearer', or None."
            )
        scheme = None if self.scheme is None else self.scheme.lower().encode()
        object.__setattr__(self, "_name", self.name.lower().encode())
        object.__setattr__(self, "_response", self.response.encode())
        object.__setattr__(self, "_scheme", scheme)

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bool, set[bytes]]:
        """
        Return whether the client wants to be answered in a header, and the ids that it has sent.

        It does if it has sent an id, or the word `new`.
        """
        found = {self._credentials(value) for name, value in headers if name == self._name}
        ids = {value for value in found if is_id(value)}
        return bool(ids) or _NEW in found, ids

    def _credentials(self, value: bytes) -> bytes:
        """Return what follows the scheme; empty if it is another one (RFC 9110, section 11.4)."""
        value = value.strip(b" \t")
        if self._scheme is None:
            return value
        scheme, _, credentials = value.partition(b" ")
        return credentials.lstrip(b" ") if scheme.lower() == self._scheme else b""

    def headers_for(self, change: CookieChange | None) -> list[tuple[bytes, bytes]]:
        """Return the response's header for this change; none if the id stays as it is."""
        if change is None or not change.is_new:
            return []
        return [(self._response, (change.session_id or "").encode())]

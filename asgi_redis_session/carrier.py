"""
How an id travels: in which headers of a request it is looked for, and in which headers of the
response the client gets a new one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .arguments import refuse_other
from .caching import Headers, Marks
from .cookie import CookieChange, CookiePolicy, SentCookies
from .delivery import warn_if_lost
from .header import HeaderPolicy

__all__ = ["Carrier", "carrier_of", "refuse_no_carrier"]

_Headers = Iterable[tuple[bytes, bytes]]


class Carrier:
    """
    The cookie alone.

    *cookie*: its policy; None: there is none. *header*: that of the headers beside it, or instead.
    `read`: what a request says of its session. `marks`: what caches must know of a response that
    has used it.
    """

    __slots__ = ("cookie", "header", "marks", "read")

    cookie: CookiePolicy | None
    header: HeaderPolicy | None
    # An attribute, because a request should not pay for a further call.
    read: Callable[[_Headers], SentCookies]
    marks: Marks

    def __init__(self, cookie: CookiePolicy) -> None:
        self.cookie = cookie
        self.header = None
        self.read = cookie.read
        self.marks = _OF_COOKIE

    def headers_for(self, change: CookieChange | None, scope: Mapping[str, Any] | None) -> Headers:
        """
        Return the headers that carry this change; None: only those that forget former cookies.

        *scope*: of the request, for a warning if the client will not send the id back; None: there
        is none.
        """
        cookie = self.cookie
        if cookie is None:
            return []
        if scope is not None and change is not None and change.session_id is not None:
            warn_if_lost(cookie, scope)
        return [(b"set-cookie", value) for value in cookie.headers_for(change)]

    @property
    def places(self) -> list[str]:
        """Where ids are looked for, in words."""
        cookie, header, places = self.cookie, self.header, []
        if cookie is not None:
            places.append(f"the cookie {cookie.name!r}")
        if header is not None:
            value = header.name if header.scheme is None else f"{header.name}: {header.scheme}"
            places.append(f"the header {value!r}")
        return places

    @property
    def claims(self) -> list[str]:
        """What another session of the same app can't have as well, in words."""
        header = self.header
        response = [] if header is None else [f"the response's header {header.response!r}"]
        return [*self.places, *response]


class _EitherCarrier(Carrier):
    """
    The carrier of one request that may bring its id in a header.

    What it has sent is read once, at the beginning: an app that changes the scope must not change
    how it is answered.
    """

    __slots__ = ("_sent",)

    def __init__(
        self, cookie: CookiePolicy | None, header: HeaderPolicy, headers: _Headers
    ) -> None:
        self.cookie = cookie
        self.header = header
        name = header.name.encode()
        self.marks = Marks(name) if cookie is None else Marks(b"Cookie", name)
        self._sent = _read_either(cookie, header, headers)
        self.read = self._read

    def _read(self, headers: _Headers) -> SentCookies:  # noqa: ARG002
        return self._sent

    def headers_for(self, change: CookieChange | None, scope: Mapping[str, Any] | None) -> Headers:
        if self._sent.in_header and self.header is not None:
            return self.header.headers_for(change)
        return super().headers_for(change, scope)


def refuse_no_carrier(option: str, cookie: object, header: object) -> None:
    """Refuse what is no `HeaderPolicy`, and a session that no id could lead to."""
    refuse_other(f"{option}(carrier)", header, HeaderPolicy | None, "a HeaderPolicy or None")
    if cookie is None and header is None:
        raise ValueError(
            f"{option}(cookie=None): without a cookie, give carrier=HeaderPolicy(), so that an id "
            "can travel."
        )


def carrier_of(
    cookie: CookiePolicy | None, header: HeaderPolicy | None, headers: _Headers
) -> Carrier:
    """Return the carrier of a request with these headers."""
    if header is not None:
        return _EitherCarrier(cookie, header, headers)
    assert cookie is not None  # noqa: S101  (the callers refuse that)
    return Carrier(cookie)


def _read_either(
    cookie: CookiePolicy | None, header: HeaderPolicy, headers: _Headers
) -> SentCookies:
    """
    Return what a request says of its session.

    A request with the cookie is answered by the cookie: it comes from a browser, where scripts
    can read headers. Two different ids count as none.
    """
    by_cookie = SentCookies() if cookie is None else cookie.read(headers)
    is_header_used, ids = header.read(headers)
    sent = {text.decode() for text in ids}
    if by_cookie == SentCookies():
        in_header = is_header_used or cookie is None
        if len(sent) > 1:
            return SentCookies(conflicting=tuple(sorted(sent)), in_header=in_header)
        return SentCookies(next(iter(sent), None), in_header=in_header)
    known = {*by_cookie.conflicting, *([by_cookie.session_id] if by_cookie.session_id else [])}
    if sent <= known:
        return by_cookie
    return SentCookies(conflicting=tuple(sorted(sent | known)))


_OF_COOKIE = Marks(b"Cookie")

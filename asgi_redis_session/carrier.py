"""
How an id travels: in which headers of a request it is looked for, and in which headers of the
response the client gets a new one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .caching import Headers, Marks
from .cookie import CookieChange, CookiePolicy, SentCookies
from .delivery import warn_if_lost

__all__ = ["Carrier"]


class Carrier:
    """
    The session cookie.

    *cookie*: its policy. `read`: what a request says of its session. `marks`: what caches must know
    of a response that has used it.
    """

    __slots__ = ("cookie", "marks", "read")

    def __init__(self, cookie: CookiePolicy) -> None:
        self.cookie = cookie
        # The policy's own method, because a request should not pay for a further call.
        self.read: Callable[[Iterable[tuple[bytes, bytes]]], SentCookies] = cookie.read
        self.marks = _OF_COOKIE

    def headers_for(self, change: CookieChange | None, scope: Mapping[str, Any]) -> Headers:
        """
        Return the headers that carry this change; None: only those that forget former cookies.

        *scope*: of the request, for a warning if the client will not send the id back.
        """
        if change is not None and change.session_id is not None:
            warn_if_lost(self.cookie, scope)
        return [(b"set-cookie", value) for value in self.cookie.headers_for(change)]


_OF_COOKIE = Marks(b"Cookie")

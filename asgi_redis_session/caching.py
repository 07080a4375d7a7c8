"""
What a response says to caches: that it depends on the cookie, that it is for one visitor, and that
a new cookie is not stored.

A shared cache that stores a `Set-Cookie` of ours hands one visitor's id to the next. So a response
with one says `no-store`, even if the app has said otherwise (RFC 9111, sections 3 and 7.3).
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .once import first_time
from .records import about

__all__ = ["Headers", "Marks"]

logger = logging.getLogger("asgi_redis_session")

Headers = list[tuple[bytes, bytes]]

#: What caches obey. One that knows a name other than the first obeys it in place of the first:
#: RFC 9213 and its vendors, Varnish and Fastly, Akamai, nginx.
_RULES = frozenset(
    {
        *(b"cache-control", b"cdn-cache-control", b"surrogate-control", b"edge-control"),
        *(
            b"cloudflare-cdn-cache-control",
            b"netlify-cdn-cache-control",
            b"vercel-cdn-cache-control",
        ),
        b"x-accel-expires",
    }
)
_HEEDED = _RULES | {b"vary"}
_INVITES = re.compile(rb"\b(?:public|(?:s-maxage|max-age)=\"?0*[1-9])")
_FORBIDS = re.compile(rb"\b(?:private|no-store)\b")
_IS_OPEN = re.compile(rb"\b(?:public|s-maxage=\"?0*[1-9])")

_PATH_LENGTH = 200


class Marks:
    """
    The marks that tell caches that a response depends on its session.

    *names*: the request's headers that were looked at for it.
    """

    __slots__ = ("_for_one_visitor", "_names", "_vary")

    def __init__(self, *names: bytes) -> None:
        self._names = names
        self._vary = (b"vary", b", ".join(names))
        self._for_one_visitor = (self._vary, (b"cache-control", b"private"))

    def put(self, headers: Headers, scope: Mapping[str, Any], carried: Headers) -> None:
        """
        Add to the headers of a response that has used its session what caches must know.

        `Vary` names what was looked at (RFC 9110, section 12.5.5), and `Cache-Control` is `private`
        unless the app has said something to caches. If the response carries an id or the end of
        one, the headers *carried* are added, and `no-store` replaces what the app has said.
        *scope*: of the request, for a warning if the app has offered the response to shared caches.
        """
        rules: Sequence[int] = ()
        for name, _ in headers:
            if name.lower() in _HEEDED:
                rules = self._heed(headers, scope, has_id=bool(carried))
                break
        else:  # nearly always
            if not carried:
                headers += self._for_one_visitor
                return
            headers.append(self._vary)
        if carried:
            for index in reversed(rules):
                del headers[index]
            headers += carried
            headers.append((b"cache-control", b"no-store"))
        elif not rules:
            headers.append((b"cache-control", b"private"))

    def _heed(self, headers: Headers, scope: Mapping[str, Any], *, has_id: bool) -> list[int]:
        """Let `Vary` name what was looked at; returns where the rules for caches are."""
        place, listed, said = -1, b"", b""
        rules: list[int] = []
        for index, (raw_name, value) in enumerate(headers):
            name = raw_name.lower()
            if name == b"vary":
                place = index if place < 0 else place
                listed += value.lower() + b","
            elif name in _RULES:
                rules.append(index)
                # nginx's own header is a number of seconds.
                said += (b"s-maxage=" if name == b"x-accel-expires" else b"") + value.lower() + b","
        if rules:
            _judge(said, scope.get("path", ""), has_id=has_id)
        if place < 0:
            headers.append(self._vary)
            return rules
        known = {name.strip() for name in listed.split(b",")}
        missing = [name for name in self._names if name.lower() not in known]
        if missing and b"*" not in known:
            name, value = headers[place]
            headers[place] = (name, b", ".join([value, *missing]))
        return rules


def _judge(said: bytes, path: str, *, has_id: bool) -> None:
    """Warn if the app has offered the response to shared caches."""
    if has_id and _INVITES.search(said) and not _FORBIDS.search(said):
        _warn(
            path,
            "The response to %r carries a session's id, and the app has offered it to caches "
            "(Cache-Control). It was sent with `no-store` instead, because a shared cache would "
            "hand one visitor's session to the next. Leave responses that begin, renew or end a "
            "session out of what is cached.",
        )
    elif not has_id and _IS_OPEN.search(said) and not _FORBIDS.search(said):
        _warn(
            path,
            "The response to %r has used its session, and the app has offered it to shared caches "
            "(Cache-Control: public). Visitors may see each other's pages. Send `private` or "
            "`no-store`, or don't use the session there.",
        )


def _warn(path: str, sentence: str) -> None:
    if first_time("caches", path):
        shown = path[:_PATH_LENGTH]
        logger.warning(sentence, shown, extra=about("shared_cache", path=shown))

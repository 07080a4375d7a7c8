"""
What a response says to caches: that it depends on the cookie, that it is for one visitor, and that
a new cookie is not stored.

A shared cache that stores a `Set-Cookie` of ours hands one visitor's id to the next. So a response
with one says `no-store`, even if the app has said otherwise (RFC 9111, sections 3 and 7.3).
"""

import logging
import re
from collections.abc import Sequence

from .once import first_time
from .records import about

__all__ = ["Headers", "mark"]

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

_VARY, _PRIVATE = (b"vary", b"Cookie"), (b"cache-control", b"private")
_FOR_ONE_VISITOR = (_VARY, _PRIVATE)

_PATH_LENGTH = 200


def mark(headers: Headers, path: str, cookies: Sequence[bytes]) -> None:
    """
    Add to the headers of a response that has used its session what caches must know.

    `Vary` names `Cookie` (RFC 9110, section 12.5.5), and `Cache-Control` is `private` unless the
    app has said something to caches. With *cookies*, the values of `Set-Cookie`, these are added,
    and `no-store` replaces what the app has said. *path*: of the request, for a warning if the app
    has offered the response to shared caches.
    """
    rules: Sequence[int] = ()
    for name, _ in headers:
        if name.lower() in _HEEDED:
            rules = _heed(headers, path, has_cookie=bool(cookies))
            break
    else:  # nearly always
        if not cookies:
            headers += _FOR_ONE_VISITOR
            return
        headers.append(_VARY)
    if cookies:
        for index in reversed(rules):
            del headers[index]
        headers += [(b"set-cookie", cookie) for cookie in cookies]
        headers.append((b"cache-control", b"no-store"))
    elif not rules:
        headers.append(_PRIVATE)


def _heed(headers: Headers, path: str, *, has_cookie: bool) -> list[int]:
    """Let `Vary` name `Cookie`; returns where the rules for caches are."""
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
        _judge(said, path, has_cookie=has_cookie)
    if place < 0:
        headers.append(_VARY)
    elif not {b"cookie", b"*"} & {name.strip() for name in listed.split(b",")}:
        name, value = headers[place]
        headers[place] = (name, value + b", Cookie")
    return rules


def _judge(said: bytes, path: str, *, has_cookie: bool) -> None:
    """Warn if the app has offered the response to shared caches."""
    if has_cookie and _INVITES.search(said) and not _FORBIDS.search(said):
        _warn(
            path,
            "The response to %r sets a session cookie, and the app has offered it to caches "
            "(Cache-Control). It was sent with `no-store` instead, because a shared cache would "
            "hand one visitor's session to the next. Leave responses that begin, renew or end a "
            "session out of what is cached.",
        )
    elif not has_cookie and _IS_OPEN.search(said) and not _FORBIDS.search(said):
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

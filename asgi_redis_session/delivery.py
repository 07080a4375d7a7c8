"""Whether the browser will send the cookie back; if not, one warning that says why."""

import logging
from collections.abc import Mapping
from typing import Any

from .cookie import CookiePolicy
from .once import first_time
from .records import about

__all__ = ["warn_if_lost"]

logger = logging.getLogger("asgi_redis_session")


def warn_if_lost(cookie: CookiePolicy, scope: Mapping[str, Any]) -> None:
    """Warn once of a cookie that this response sets, and that the next request will lack."""
    over_http = cookie.secure and scope.get("scheme") in ("http", "ws")
    if over_http and not _is_trustworthy(scope) and first_time("Secure", cookie.name):
        logger.warning(
            "The session cookie %r is Secure, but this request came over plain HTTP: it will not "
            "be sent back. For development use CookiePolicy.for_development(). If a proxy ends "
            "TLS, let it send X-Forwarded-Proto, and the server trust it.",
            cookie.name,
            extra=about("cookie_not_returned", cookie=cookie.name),
        )
    is_covered = cookie.path == "/" or _covers(cookie.path, scope)
    if not is_covered and first_time("path", cookie.name):
        logger.warning(
            "The session cookie %r has the path %r, which does not cover this request's own path: "
            "browsers will not send it back there. Give CookiePolicy(path=...) a path that all "
            "pages with a session have in common. If a proxy removes a prefix, set root_path.",
            cookie.name,
            cookie.path,
            extra=about("cookie_not_returned", cookie=cookie.name),
        )


def _is_trustworthy(scope: Mapping[str, Any]) -> bool:
    """Whether the browser has used HTTPS, or sends Secure cookies to this host anyway."""
    for name, value in scope.get("headers", ()):
        # Browsers send Sec-Fetch-Site to trustworthy URLs only: HTTPS, and localhost.
        if name == b"sec-fetch-site" or (name == b"x-forwarded-proto" and b"https" in value):
            return True
    return False


def _covers(path: str, scope: Mapping[str, Any]) -> bool:
    """Whether a cookie with this path is sent to the request's (RFC 6265, section 5.1.4)."""
    own: str = scope.get("path", "")
    root: str = scope.get("root_path", "")
    prefix = path.rstrip("/") + "/"
    return any(each == path or each.startswith(prefix) for each in (own, root.rstrip("/") + own))

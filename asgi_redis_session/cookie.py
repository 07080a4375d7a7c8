"""
The session cookie: its attributes, how it is read from a request, and how it is written to a
response.

Everything works on raw bytes. What a client sends is compared, never decoded, unquoted or repaired:
a value that does not have exactly the form of an id is ignored.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Self

from .arguments import shown
from .pages import see
from .quiet import hiding

__all__ = [
    "CookieChange",
    "CookiePolicy",
    "SentCookies",
    "cookie_pattern",
    "is_cookie_name",
    "is_id",
    "max_age_seconds",
]

#: 256 random bits as base64url without padding.
_ID_FORM = rb"[A-Za-z0-9_-]{43}"
_ID = re.compile(_ID_FORM)
#: An id as the value of a cookie, with or without blanks around it.
_ID_VALUE = rb"[ \t]*(" + _ID_FORM + rb")(?=[ \t]*(?:;|\Z))"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,255}")  # RFC 9110, section 5.6.2
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 1123, section 2.1
_DOMAIN = re.compile(rf"\.?{_LABEL}(?:\.{_LABEL})*\.{_LABEL}")
_DOMAIN_LENGTH = 253  # RFC 1035, section 2.3.4, as text
_PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")
_ATTRIBUTE_BYTES = 1024  # browsers ignore a longer attribute (RFC 6265bis, section 5.6)
_MAX_AGE = 400 * 24 * 3600  # and cap the lifetime at 400 days (section 5.5)


def cookie_pattern(name: str, value: bytes = rb"([^;]*)") -> re.Pattern[bytes]:
    """Return what finds the values of a cookie in a `cookie` header; *value*: which ones."""
    return re.compile(rb"(?:^|;)[ \t]*" + re.escape(name.encode()) + rb"=" + value)


def is_cookie_name(name: object) -> bool:
    """Whether a cookie may have this name."""
    return isinstance(name, str) and _TOKEN.fullmatch(name) is not None


def is_id(value: bytes) -> bool:
    """Whether the value has the form of a session id."""
    return _ID.fullmatch(value) is not None


def max_age_seconds(max_age_ms: int | None) -> int:
    """Return the `Max-Age` for a session that may still live so long; None: it has no deadline."""
    return _MAX_AGE if max_age_ms is None else min(_MAX_AGE, max(0, max_age_ms // 1000))


def _is_domain(text: str) -> bool:
    """Whether browsers accept this as a `Domain`: no single label, and no address."""
    is_address = text.rpartition(".")[2].isdigit()  # no top-level domain is a number
    return bool(_DOMAIN.fullmatch(text)) and len(text) <= _DOMAIN_LENGTH and not is_address


@hiding("session_id")
class CookieChange(NamedTuple):
    """
    The id that the client must send from now on, or None if it must forget the one that it has.

    A cookie carries it, or a header (`HeaderPolicy`).

    *is_new*: whether the session has just begun, or has just got this id. *persistent*: whether the
    cookie outlives the browser; None: as the policy says.
    """

    session_id: str | None
    max_age_ms: int | None = None
    is_new: bool = True
    persistent: bool | None = None


@hiding("session_id", "conflicting")
class SentCookies(NamedTuple):
    """
    The ids that a request carries, in its cookies or in a header.

    *session_id*: None if there is no cookie with the form of an id, or if there are two different
    ones; these are *conflicting* then. *is_former*: the cookie has a name that the policy replaces.
    *in_header*: it wants to be answered in a header.
    """

    session_id: str | None = None
    conflicting: tuple[str, ...] = ()
    is_former: bool = False
    in_header: bool = False


_NOTHING_SENT = SentCookies()


@dataclass(frozen=True, slots=True, kw_only=True)
class CookiePolicy:
    """
    The name and attributes of the session cookie (RFC 6265bis).

    *name*: with the default prefix `__Host-`, browsers accept the cookie only over HTTPS, from this
    host and for the whole site, so that no sibling domain can plant one.
    *max_age*: `"absolute"` keeps the cookie until the session's deadline (at most 400 days, the
    limit of browsers); `"session"` lets the browser drop it when it closes. A login may choose for
    itself: `session.login(persistent=...)`.
    *partitioned*: each embedding site gets a cookie jar of its own (CHIPS). It needs
    `same_site="none"` to be of use.
    *replaces*: policies that the app used before, if the domain, the path or the name has changed.
    Browsers keep the old cookie beside the new one, and two different ones count as none. So each
    response that sets this cookie makes the browser forget those, and so does the response to a
    request that has sent both. *replaces_until*: an aware datetime. Until then, a cookie under
    another name of *replaces* is still read, and a response that uses its session gives the browser
    the same id under the new name.

    Raises `ValueError` for combinations that browsers would ignore or that would not protect.
    """

    name: str = "__Host-session"
    secure: bool = True
    http_only: bool = True
    same_site: Literal["lax", "strict", "none"] = "lax"
    path: str = "/"
    domain: str | None = None
    partitioned: bool = False
    max_age: Literal["absolute", "session"] = "absolute"
    replaces: Sequence["CookiePolicy"] = ()
    replaces_until: datetime | None = None
    _attributes: bytes = field(init=False, repr=False, compare=False)
    _pattern: re.Pattern[bytes] = field(init=False, repr=False, compare=False)
    _assignment: bytes = field(init=False, repr=False, compare=False)
    _renamed: tuple["CookiePolicy", ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._refuse_nonsense()
        parts = [f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.secure:
            parts.append("Secure")
        if self.http_only:
            parts.append("HttpOnly")
        parts.append(f"SameSite={self.same_site.capitalize()}")
        if self.partitioned:
            parts.append("Partitioned")
        object.__setattr__(self, "_attributes", "; ".join(parts).encode())
        object.__setattr__(self, "_pattern", cookie_pattern(self.name, _ID_VALUE))
        object.__setattr__(self, "_assignment", self.name.encode() + b"=")
        if not isinstance(self.replaces, list | tuple) or not all(
            isinstance(former, CookiePolicy) for former in self.replaces
        ):
            raise ValueError("CookiePolicy(replaces=[...]): give the CookiePolicy of before.")
        object.__setattr__(self, "replaces", tuple(self.replaces))
        renamed = [former for former in self.replaces if former.name != self.name]
        object.__setattr__(self, "_renamed", tuple(renamed))
        self._refuse_nonsense_of_former()

    @classmethod
    def for_development(cls) -> Self:
        """
        Return a policy that works over plain HTTP: no prefix, no `Secure`.

        It warns, because anybody on the network can then read the cookie.
        """
        warnings.warn(
            "CookiePolicy.for_development() sends the session cookie over plain HTTP. "
            f"Use CookiePolicy() behind HTTPS in production. {see('cookie_over_http')}",
            stacklevel=2,
        )
        return cls(name="session", secure=False)

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> SentCookies:
        """
        Return the session id in the request's `cookie` headers.

        Only what has the form of an id counts. What is left over from another app does not. Two
        different ids mean that somebody (a sibling domain, another path) has set a second cookie of
        this name; their order does not say which one is ours.
        """
        ids: set[bytes] = set()
        for name, value in headers:
            if name == b"cookie":
                ids.update(self._pattern.findall(value))
        if len(ids) == 1:
            return SentCookies(ids.pop().decode())
        if ids:
            return SentCookies(conflicting=tuple(sorted(found.decode() for found in ids)))
        return self._read_former(headers) if self._renamed else _NOTHING_SENT

    def _read_former(self, headers: Iterable[tuple[bytes, bytes]]) -> SentCookies:
        if self._is_former_read():
            for former in self._renamed:
                sent = former.read(headers)
                if sent is not _NOTHING_SENT:
                    return sent._replace(is_former=True)
        return _NOTHING_SENT

    def _is_former_read(self) -> bool:
        return self.replaces_until is not None and datetime.now(UTC) < self.replaces_until

    def headers_for(self, change: CookieChange | None) -> list[bytes]:
        """
        Return the `Set-Cookie` values for this change.

        They begin with those that make it forget the cookies that this policy replaces. None: only
        these.
        """
        values = [former.render_deletion() for former in self.replaces]
        if change is not None:
            values.append(self._header_for(change))
        return values

    def _header_for(self, change: CookieChange) -> bytes:
        if change.session_id is None:
            return self.render_deletion()
        return self.render(change.session_id, change.max_age_ms, change.persistent)

    def render(
        self,
        session_id: str,
        max_age_ms: int | None,
        persistent: bool | None = None,  # noqa: FBT001
    ) -> bytes:
        """
        Return the `Set-Cookie` value that gives the browser this id.

        *max_age_ms*: how long the session may still live; None: it has no deadline.
        *persistent*: whether the cookie outlives the browser; None: as *max_age* says.
        """
        if persistent is False or (persistent is None and self.max_age == "session"):
            return b"%b%b; %b" % (self._assignment, session_id.encode(), self._attributes)
        seconds = max_age_seconds(max_age_ms)
        return b"%b%b; Max-Age=%d; %b" % (
            self._assignment,
            session_id.encode(),
            seconds,
            self._attributes,
        )

    def render_deletion(self) -> bytes:
        """Return the `Set-Cookie` value that makes the browser forget the cookie."""
        return b"%bdeleted; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; %b" % (
            self._assignment,
            self._attributes,
        )

    def _refuse_nonsense(self) -> None:
        if not is_cookie_name(self.name):
            raise ValueError(
                f"CookiePolicy(name={shown(self.name)}): a cookie's name is made of letters, "
                "digits and !#$%&'*+-.^_`|~ (RFC 6265)."
            )
        if not isinstance(self.path, str) or not _PATH.fullmatch(self.path):
            raise ValueError(
                f"CookiePolicy(path={shown(self.path)}): a path starts with '/' and has no blanks, "
                "control characters or ';'."
            )
        if self.domain is not None and not (
            isinstance(self.domain, str) and _is_domain(self.domain)
        ):
            raise ValueError(
                f"CookiePolicy(domain={shown(self.domain)}): give a host name of several parts, "
                "such as 'example.com', or None for this host only. Browsers ignore a single word "
                "or an address."
            )
        if len(self.path) > _ATTRIBUTE_BYTES:
            raise ValueError(
                f"CookiePolicy(path=...): browsers ignore a path of over {_ATTRIBUTE_BYTES} bytes."
            )
        if not isinstance(self.same_site, str) or self.same_site not in ("lax", "strict", "none"):
            raise ValueError(
                f"CookiePolicy(same_site={shown(self.same_site)}): use 'lax', 'strict' or 'none'."
            )
        if not isinstance(self.max_age, str) or self.max_age not in ("absolute", "session"):
            raise ValueError(
                f"CookiePolicy(max_age={shown(self.max_age)}): use 'absolute' or 'session'; the "
                "length itself is set by Lifetime."
            )
        self._refuse_bad_flags()

    def _refuse_nonsense_of_former(self) -> None:
        until = self.replaces_until
        if any(former._identity == self._identity for former in self.replaces):  # noqa: SLF001
            raise ValueError(
                "CookiePolicy(replaces=[...]): a policy with the same name, domain and path names "
                "the same cookie, so there is nothing to replace. Leave it out."
            )
        if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
            raise ValueError(
                f"CookiePolicy(replaces_until={shown(until)}): give an aware datetime, such as "
                "datetime(2027, 1, 31, tzinfo=UTC)."
            )
        if bool(self._renamed) is not (until is not None):
            raise ValueError(
                "CookiePolicy(replaces=[...], replaces_until=...): give both if the name has "
                "changed, so that the old name is read for a while; else give no replaces_until."
            )

    @property
    def _identity(self) -> tuple[str, str | None, str, bool]:
        """What makes it another cookie for a browser (RFC 6265bis, section 5.7; CHIPS)."""
        domain = None if self.domain is None else self.domain.lstrip(".").lower()
        return self.name, domain, self.path, self.partitioned

    def _refuse_bad_flags(self) -> None:
        for flag in ("secure", "http_only", "partitioned"):
            if type(getattr(self, flag)) is not bool:
                raise ValueError(
                    f"CookiePolicy({flag}={shown(getattr(self, flag))}): use True or False."
                )
        # Browsers ignore the case of prefixes, so a server must as well.
        prefix = self.name.lower()
        if prefix.startswith("__host-") and (
            not self.secure or self.path != "/" or self.domain is not None
        ):
            raise ValueError(
                f"CookiePolicy(name={shown(self.name)}): browsers refuse a '__Host-' cookie unless "
                "secure=True, path='/' and domain=None. Choose another name, or drop the others."
            )
        if prefix.startswith(("__http-", "__host-http-")) and not self.http_only:
            raise ValueError(
                f"CookiePolicy(name={shown(self.name)}): browsers refuse it without http_only=True."
            )
        if not self.secure:
            self._refuse_insecure(prefix)

    def _refuse_insecure(self, prefix: str) -> None:
        for needs_secure, what in (
            (prefix.startswith(("__secure-", "__http-")), f"name={shown(self.name)}"),
            (self.same_site == "none", "same_site='none'"),
            (self.partitioned, "partitioned=True"),
        ):
            if needs_secure:
                raise ValueError(f"CookiePolicy({what}): browsers ignore it without secure=True.")

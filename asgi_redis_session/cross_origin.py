"""
Cross-origin requests: whether another site's page has made a browser send this one.

A browser says so itself, in `Sec-Fetch-Site` (W3C Fetch Metadata); older ones send `Origin`, which
is compared with the host. So no form needs a token. Go's `http.CrossOriginProtection` decides in
the same way. Nothing here knows of sessions.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .arguments import refuse_no_bool, shown

__all__ = ["CrossOriginPolicy", "policy_of", "refusal", "refuse"]

#: Methods that change nothing (RFC 9110, section 9.2.1), as far as browsers send them for a page.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: The browser's own address bar or bookmark, and this very origin.
_OURS = frozenset({b"none", b"same-origin"})
_SAME_SITE = b"same-site"

# A serialised origin (RFC 6454, section 6.2), and the value of `Host` (RFC 9110, section 7.2).
_AUTHORITY = r"(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#,*\[\]]+)(?::([0-9]{1,5}))?"
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://{_AUTHORITY}")
_HOST = re.compile(_AUTHORITY)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

_POLICY = 1008  # close code: a message violates the endpoint's policy (RFC 6455, section 7.4.1)


class _Origin(NamedTuple):
    """Where a page comes from, in small letters. *port*: never empty for http and https."""

    scheme: str
    host: str
    port: str


@dataclass(frozen=True)
class CrossOriginPolicy:
    """
    Which requests are refused as another site's, for `SessionMiddleware(cross_origin=...)`.

    Only a request that carries the session's cookie is looked at, and only if its method is none of
    GET, HEAD and OPTIONS, or if it opens a WebSocket. It is refused if its `Sec-Fetch-Site` is
    anything but `same-origin` or `none`. Without that header, it is refused if its `Origin` names
    another host than `Host`. A request with neither header does not come from a browser's page, and
    passes.

    *trusted_origins*: other origins whose pages may send such requests, as in
    `["https://app.example.com"]`: scheme, host, and the port if it is not the default one.
    *exempt_paths*: paths that may be called from anywhere, such as those to which an identity
    provider posts a form; one that ends with `/` stands for all below it. They must protect
    themselves, for instance by a `state` that the session holds.
    *same_site*: whether pages of the same site, but another origin (`other.example.com` for
    `app.example.com`), may. By default not: control of one subdomain would be enough to act on all.
    *forwarded_host*: whether `X-Forwarded-Host` is used in place of `Host`. Only behind a proxy
    that always sets it: anybody else can send it, too.

    Raises `ValueError` or `TypeError` for unusable arguments.
    """

    trusted_origins: Sequence[str] = ()
    exempt_paths: Sequence[str] = ()
    same_site: bool = False
    forwarded_host: bool = False
    _trusted: frozenset[_Origin] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        origins = _texts("trusted_origins", self.trusted_origins)
        paths = _texts("exempt_paths", self.exempt_paths)
        refuse_no_bool("CrossOriginPolicy(same_site)", self.same_site)
        refuse_no_bool("CrossOriginPolicy(forwarded_host)", self.forwarded_host)
        for path in paths:
            if not path.startswith("/"):
                raise ValueError(
                    f"CrossOriginPolicy(exempt_paths=[{shown(path)}]): a path begins with '/'."
                )
        object.__setattr__(self, "trusted_origins", origins)
        object.__setattr__(self, "exempt_paths", paths)
        object.__setattr__(self, "_trusted", frozenset(map(_trusted, origins)))


def refusal(policy: CrossOriginPolicy, scope: Mapping[str, Any]) -> str | None:
    """Why an ASGI scope is refused, for the event; None if it is not."""
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return None
    sent: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        sent.setdefault(name, []).append(value)
    sites, origins = sent.get(b"sec-fetch-site", []), sent.get(b"origin", [])
    if sites:
        accepted = {*_OURS, _SAME_SITE} if policy.same_site else _OURS
        is_ours = all(site in accepted for site in sites)
    else:
        hosts = sent.get(b"x-forwarded-host" if policy.forwarded_host else b"host", [])
        is_ours = all(_is_at(origin, hosts) for origin in origins)
    if is_ours or _is_trusted(policy, origins) or _is_exempt(policy, scope["path"]):
        return None
    origin = b", ".join(origins)[:200].decode("latin-1")
    kind = "WebSocket" if scope["type"] == "websocket" else scope["method"]
    return f"{kind} from {shown(origin)}" if origin else f"{kind} from another site"


def _is_trusted(policy: CrossOriginPolicy, origins: list[bytes]) -> bool:
    trusted = policy._trusted  # noqa: SLF001  (no business of an app's)
    return bool(origins) and all(_parsed(origin) in trusted for origin in origins)


def _is_exempt(policy: CrossOriginPolicy, path: str) -> bool:
    return any(
        path == exempt or (exempt.endswith("/") and path.startswith(exempt))
        for exempt in policy.exempt_paths
    )


def _parsed(origin: bytes) -> _Origin | None:
    """Return the parts of an origin; None for `null`, and for what is none."""
    if (found := _ORIGIN.fullmatch(origin.decode("latin-1"))) is None:
        return None
    scheme = found[1].lower()
    return _Origin(scheme, found[2].lower(), found[3] or _DEFAULT_PORTS.get(scheme, ""))


def _is_at(origin: bytes, hosts: list[bytes]) -> bool:
    """
    Whether an origin is that of the host that the request was sent to.

    The scheme is not compared, because behind a proxy the app does not know it.
    """
    parsed = _parsed(origin)
    if parsed is None or len(hosts) != 1:
        return False
    host = _HOST.fullmatch(hosts[0].decode("latin-1").rpartition(",")[2].strip())
    if host is None:
        return False
    port = host[2] or _DEFAULT_PORTS.get(parsed.scheme, "")
    return (host[1].lower(), port) == (parsed.host, parsed.port)


def _trusted(origin: str) -> _Origin:
    if (parsed := _parsed(origin.encode())) is None:
        raise ValueError(
            f"CrossOriginPolicy(trusted_origins=[{shown(origin)}]): give scheme and host, and no "
            "path, as in 'https://app.example.com' or 'http://localhost:8000'."
        )
    return parsed


def policy_of(given: object, trusted_origins: Sequence[str]) -> CrossOriginPolicy | None:
    """Return what `SessionMiddleware(cross_origin=, trusted_origins=)` ask for; None: nothing."""
    trusted_origins = _texts("trusted_origins", trusted_origins)
    if isinstance(given, CrossOriginPolicy):
        if trusted_origins:
            raise TypeError("Give trusted_origins to the CrossOriginPolicy, not beside it.")
        return given
    if not isinstance(given, str) or given not in ("allow", "refuse"):
        raise ValueError(
            f"SessionMiddleware(cross_origin={shown(given)}): use 'allow', 'refuse' or a "
            "CrossOriginPolicy."
        )
    if given == "allow" and trusted_origins:
        raise ValueError("SessionMiddleware(trusted_origins=...) needs cross_origin='refuse'.")
    return CrossOriginPolicy(trusted_origins) if given == "refuse" else None


def _texts(name: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list | tuple) and all(isinstance(text, str) for text in given):
        return tuple(given)
    raise TypeError(f"CrossOriginPolicy({name}=...) takes a list of texts, not {shown(given)}.")


async def refuse(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Answer a refused request with 403, and a refused WebSocket before it is accepted."""
    text = b"This request was refused, because another site has made the browser send it.\n"
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY, "reason": ""})
            return
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(text)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": f"{kind}.start", "status": 403, "headers": headers})
    await send({"type": f"{kind}.body", "body": text})

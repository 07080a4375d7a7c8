"""
Forward authentication: a proxy asks here who a request comes from, before it passes it on.

nginx calls it `auth_request`, Caddy and Traefik `forward_auth`, Envoy `ext_authz`. So an app in any
language, which knows nothing of Redis, gets the user's id in a header.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .arguments import refuse_no_bool, refuse_other, shown
from .carrier import carrier_of, refuse_no_carrier
from .cookie import CookiePolicy
from .engine.record import Record
from .errors import SessionUnavailable
from .exchange import Receive, Scope, Send
from .header import HeaderPolicy
from .store import SessionStore, engine_of

__all__ = ["ForwardAuth"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
#: What a proxy must not take from us, because it frames messages or sets cookies.
_RESERVED = frozenset({
    "connection", "content-length", "content-type", "cookie", "host", "location", "set-cookie",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_USER, _HANDLE = "X-Session-User", "X-Session-Handle"

_Headers = list[tuple[bytes, bytes]]


class ForwardAuth:
    """
    An ASGI app that a proxy asks who sends a request.

        app = ForwardAuth(SessionStore.from_url("redis://localhost:6379/0"))

    A request with the cookie of a session in which a user is logged in gets 200, with the headers
    `X-Session-User` and `X-Session-Handle`. Every other one gets 401, or 302 to *login_url*. Every
    200 has every header, empty if there is nothing to say, so that the proxy overwrites what the
    client has sent under these names (`docs/gateways.md` has a tested configuration for each
    proxy). While Redis is down it answers 503.

    *cookie*: that of the app which logs users in. *carrier*: its `HeaderPolicy`, if the app takes
    ids in a header; with `cookie=None` only there.
    *fields*: what else the proxy passes on, as in `{"X-Session-Plan": "plan"}`: header names, and
    the fields of the session that they hold. Texts are percent-encoded (UTF-8), everything else is
    JSON, percent-encoded as well: no value can add a header.
    *idle_is_known*: whether the store has the same `Lifetime` as the app. Else the TTL of sessions
    that do not name their idle time, because version 0.1 has written them, is left alone. All
    others are extended, as by a request to the app itself.
    *anonymous*: whether a session without a user gets 200 as well, with an empty user.
    *login_url*: where a browser is sent that has no session, for proxies that pass a redirect on
    (Caddy, Traefik, Envoy; not nginx). It gets the parameter `next`: the path that was asked for.
    *uri_header*: in which header the proxy sends that path.

    It never sends a cookie, and never writes to a session. At the end of its lifespan the store is
    closed. Raises `TypeError` or `ValueError` for unusable arguments.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        cookie: CookiePolicy | None = CookiePolicy(),  # noqa: B008  (frozen)
        carrier: HeaderPolicy | None = None,
        fields: Mapping[str, str] | None = None,
        idle_is_known: bool = False,
        anonymous: bool = False,
        login_url: str | None = None,
        uri_header: str = "X-Forwarded-Uri",
    ) -> None:
        refuse_other("ForwardAuth(store)", store, SessionStore, "a SessionStore")
        takes = "a CookiePolicy, or None beside a carrier"
        refuse_other("ForwardAuth(cookie)", cookie, CookiePolicy | None, takes)
        refuse_no_carrier("ForwardAuth", cookie, carrier)
        refuse_no_bool("ForwardAuth(idle_is_known)", idle_is_known)
        refuse_no_bool("ForwardAuth(anonymous)", anonymous)
        refuse_other("ForwardAuth(login_url)", login_url, str | None, "a URL or None")
        if login_url is not None and not re.fullmatch(r"(https?://|/)[\x21-\x7e]*", login_url):
            raise ValueError(
                f"ForwardAuth(login_url={shown(login_url)}): give a path, as in '/login', or a URL "
                "that begins with 'https://'."
            )
        self.store = store
        self._cookie = cookie
        self._carrier = carrier
        self._fields = _headers_of(fields)
        self._idle_is_known = idle_is_known
        self._anonymous = anonymous
        self._login_url = login_url
        self._uri_header = _name("ForwardAuth(uri_header)", uri_header).lower().encode()
        self._engine = engine_of(store)

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer one question (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            status, headers = await self._judge(scope["headers"])
            headers += [(b"cache-control", b"no-store"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    async def _judge(self, sent: _Headers) -> tuple[int, _Headers]:
        try:
            record = await self._load(sent)
        except SessionUnavailable:
            return 503, [(b"retry-after", b"1")]
        if record is None or (record.metadata.user_id is None and not self._anonymous):
            return self._refusal(sent)
        values = record.stored.values
        says = {_USER: record.metadata.user_id or "", _HANDLE: record.handle}
        says |= {header: _text(values.get(name)) for header, name in self._fields.items()}
        return 200, [
            (header.lower().encode(), quote(text, safe=_UNQUOTED).encode())
            for header, text in says.items()
        ]

    async def _load(self, sent: _Headers) -> Record | None:
        session_id = carrier_of(self._cookie, self._carrier, sent).read(sent).session_id
        if session_id is None:
            return None
        handles, reader = self._engine.ids.handles(session_id), self._engine.reader
        if self._idle_is_known:
            return await reader.load(handles, session_id, extend=True)
        record = await reader.load(handles, session_id, extend=False)
        if record is not None and b"@idle" in record.stored.raws:
            reader.extend_soon((record.handle,))
        return record

    def _refusal(self, sent: _Headers) -> tuple[int, _Headers]:
        if self._login_url is None:
            return 401, []
        asked = next((value for name, value in sent if name == self._uri_header), b"/")
        path = asked.decode("latin-1")
        # A path of this site only: "//evil.example" and "/\evil.example" lead elsewhere.
        if not re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", path):
            path = "/"
        mark = "&" if "?" in self._login_url else "?"
        location = f"{self._login_url}{mark}next={quote(path, safe='')}"
        return 302, [(b"location", location.encode())]

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.store.aclose()
        await send({"type": "lifespan.shutdown.complete"})


#: Characters of a header's value that need no encoding (RFC 3986, section 2).
_UNQUOTED = "-._~!$&'()*+,;=:@/"


def _text(value: Any) -> str:
    """Return a field as a header shows it; "" if there is none."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, separators=(",", ":"))


def _headers_of(fields: object) -> dict[str, str]:
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise TypeError(
            "ForwardAuth(fields=...) takes header names and fields, as in "
            f"{{'X-Session-Plan': 'plan'}}, not {shown(fields)}."
        )
    for header, field in fields.items():
        _name("ForwardAuth(fields)", header)
        refuse_other(f"ForwardAuth(fields)[{header!r}]", field, str, "the name of a field")
    names = [header.lower() for header in (*fields, _USER, _HANDLE)]
    if len(set(names)) < len(names):
        raise ValueError(
            "ForwardAuth(fields=...): each header has one meaning, and two of them are taken."
        )
    return dict(fields)


def _name(option: str, name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise ValueError(
            f"{option}: {shown(name)} is no name for a header of ours; use letters, digits and "
            "'-', as in 'X-Session-Plan'."
        )
    return name

"""
OpenID Connect Back-Channel Logout 1.0: the provider ends sessions by a request of its own.

The app logs users in with `iss`, `sid` and `sub` of their ID token; this endpoint verifies the
provider's logout token and ends the sessions that are tied to it. Needs the extra `oidc`.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from .arguments import refuse_other, shown
from .errors import SessionError
from .exchange import Receive, Scope, Send
from .records import about
from .store import SessionStore, engine_of

__all__ = ["BackchannelLogout"]

logger = logging.getLogger("asgi_redis_session")

_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_TYPES = (None, "JWT", "logout+jwt", "application/logout+jwt")
#: Signatures by a key pair. What a shared secret signs, the app could have signed itself.
_ALGORITHMS = [f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)]
_ALGORITHMS += ["Ed25519", "EdDSA"]
#: How far clocks may differ, and how old a token may be, in seconds.
_LEEWAY, _OLDEST, _DAY = 60, 600, 86_400
#: Keys are fetched again for an unknown one at most once in so many seconds.
_FETCH_SECONDS = 60.0
_LONGEST_BODY = 65_536

Keys = Mapping[str, Any]


class BackchannelLogout:
    """
    An ASGI app that takes the logout tokens of one OpenID provider.

        app.mount("/oidc/logout", BackchannelLogout(
            store, issuer="https://id.example.com", client_id="shop", jwks=fetch_keys))

    Register its address with the provider as `backchannel_logout_uri`. It answers 200 when the
    sessions have ended, also if there were none, and 400 to everything else, as the specification
    says; `error_description` says why, and the log has a line.

    *issuer*, *client_id*: `iss` and `aud` of the tokens. *jwks*: the provider's keys (a JWK Set, as
    a dict), or an async function that returns them: it is called for the first token, and again
    for a key that is not known yet, at most once a minute.

    Put it outside of the session middleware: it needs no cookie. Raises `TypeError` or `ValueError`
    for unusable arguments.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        issuer: str,
        client_id: str,
        jwks: Keys | Callable[[], Awaitable[Keys]],
    ) -> None:
        refuse_other("BackchannelLogout(store)", store, SessionStore, "a SessionStore")
        for name, value in (("issuer", issuer), ("client_id", client_id)):
            refuse_other(f"BackchannelLogout({name})", value, str, "a text")
            if not value:
                raise ValueError(f"BackchannelLogout({name}='') is empty.")
        if not isinstance(jwks, Mapping) and not callable(jwks):
            raise TypeError(
                "BackchannelLogout(jwks=...) is a JWK Set as a dict, or an async function that "
                f"returns one, not {shown(jwks)}."
            )
        self.store = store
        self._issuer, self._client_id, self._jwks = issuer, client_id, jwks
        self._keys: KeySet | None = None
        self._fetched_at = -_FETCH_SECONDS

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] != "http":
            raise RuntimeError("BackchannelLogout serves HTTP only: mount it in an app.")
        status, error = 200, ""
        try:
            token = _token_in(scope["method"], await _body(receive))
            await self._end(await self._verified(token))
        except _RefusedError as refusal:
            status, error = 400, str(refusal)
        except SessionError as failure:
            status, error = 400, f"the sessions could not be ended: {failure}"
        if error:
            logger.warning(
                "A logout token of %s was refused: %s.",
                self._issuer,
                error,
                extra=about("logout_token_refused", issuer=self._issuer, reason=error),
            )
        text = json.dumps({"error": "invalid_request", "error_description": error}) if error else ""
        headers = [
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(text)),
            *([(b"content-type", b"application/json")] if error else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    async def _end(self, claims: Mapping[str, Any]) -> None:
        providers = engine_of(self.store).providers
        if await providers.has_seen(self._issuer, claims["jti"]):
            raise _RefusedError("`jti` was used before")
        await self.store.revoke_sid(self._issuer, sid=claims.get("sid"), sub=claims.get("sub"))
        # Only now, so that the provider may try again after a failure.
        lasts = max(1, int(claims["exp"] - time.time() + _LEEWAY))
        await providers.remember(self._issuer, claims["jti"], lasts * 1000)

    async def _verified(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a valid token (section 2.6). Raises `_RefusedError`."""
        try:
            found = jwt.decode(token, await self._key_set(), algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            try:  # the provider may have a new key
                keys = await self._key_set(again=True)
                found = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            except (JoseError, ValueError) as error:
                raise _RefusedError(
                    f"its signature does not fit ({type(error).__name__})"
                ) from None
        if found.header.get("typ") not in _TYPES:
            raise _RefusedError("`typ` is not that of a logout token")
        return _checked(found.claims, self._issuer, self._client_id)

    async def _key_set(self, *, again: bool = False) -> KeySet:
        is_due = time.monotonic() - self._fetched_at >= _FETCH_SECONDS
        if self._keys is None or (again and is_due and callable(self._jwks)):
            self._fetched_at = time.monotonic()
            try:
                keys = await self._jwks() if callable(self._jwks) else self._jwks
                self._keys = KeySet.import_key_set(keys)  # type: ignore[arg-type]
            except Exception as error:
                logger.exception(
                    "The keys of %s can't be read.",
                    self._issuer,
                    extra=about("provider_keys_unreadable", issuer=self._issuer),
                )
                raise _RefusedError("the provider's keys can't be read") from error
        return self._keys


class _RefusedError(Exception):
    """The request carries no valid logout token. The message says why."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text_or_missing(claims: Mapping[str, Any], name: str) -> bool:
    return name not in claims or (isinstance(claims[name], str) and claims[name] != "")


def _is_logout(events: object) -> bool:
    return isinstance(events, Mapping) and isinstance(events.get(_EVENT), Mapping)


#: What a token needs (sections 2.4 and 2.6), in this order, and what is said if it does not have
#: it. The times come after the checks that they are numbers.
_CHECKS: Sequence[tuple[str, Callable[[Mapping[str, Any], float], bool]]] = (
    ("`iat` is missing, or no number", lambda has, _: _is_number(has.get("iat"))),
    ("`exp` is missing, or no number", lambda has, _: _is_number(has.get("exp"))),
    ("`iat` is not about now", lambda has, now: -_OLDEST <= has["iat"] - now <= _LEEWAY),
    ("it has expired", lambda has, now: has["exp"] >= now - _LEEWAY),
    ("it expires in more than a day", lambda has, now: has["exp"] <= now + _DAY),
    ("it has a `nonce`, so it is an ID token", lambda has, _: "nonce" not in has),
    ("`events` does not name a logout", lambda has, _: _is_logout(has.get("events"))),
    ("`jti` is missing", lambda has, _: "jti" in has),
    ("it has neither `sid` nor `sub`", lambda has, _: "sid" in has or "sub" in has),
    *[
        (f"`{name}` is no text", lambda has, _, name=name: _is_text_or_missing(has, name))
        for name in ("jti", "sid", "sub")
    ],
)


def _checked(claims: Mapping[str, Any], issuer: str, client_id: str) -> Mapping[str, Any]:
    audience = claims.get("aud")
    if claims.get("iss") != issuer:
        raise _RefusedError("`iss` is another issuer")
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        raise _RefusedError("`aud` is another client")
    now = time.time()
    for refusal, is_fulfilled in _CHECKS:
        if not is_fulfilled(claims, now):
            raise _RefusedError(refusal)
    return claims


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError("the request is incomplete")
        body += message.get("body", b"")
        if len(body) > _LONGEST_BODY:
            raise _RefusedError("the request is too long")
        if not message.get("more_body", False):
            return bytes(body)


def _token_in(method: str, body: bytes) -> str:
    if method != "POST":
        raise _RefusedError("a logout token is sent by POST")
    tokens = parse_qs(body.decode("latin-1")).get("logout_token", [])
    if len(tokens) != 1:
        raise _RefusedError("the form needs one `logout_token`")
    return tokens[0]

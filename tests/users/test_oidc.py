"""OpenID Connect Back-Channel Logout: `BackchannelLogout` with tokens that are made here."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from asgi_redis_session import SessionStore
from asgi_redis_session.oidc import BackchannelLogout

from ..support.internals import let_a_minute_pass, new_id, open_session
from ..support.serving import PATIENCE, serve
from ..support.sessions import is_live

pytestmark = pytest.mark.on_cluster

ISSUER, CLIENT = "https://id.example.com", "shop"
EVENT = "http://schemas.openid.net/event/backchannel-logout"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"}, auto_kid=False)
OTHER = RSAKey.generate_key(2048, {"kid": "rsa"}, auto_kid=False)
NEW = RSAKey.generate_key(2048, {"kid": "new"}, auto_kid=False)
EC = ECKey.generate_key("P-256", {"kid": "ec"}, auto_kid=False)
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"}, auto_kid=False)
SHARED = OctKey.import_key("a secret that the client and the provider share", {"kid": "shared"})
KEYS: dict[str, Any] = {
    "keys": [key.as_dict(private=False) for key in (RSA, EC, ED)],
}
_numbers = iter(range(1_000_000))


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a valid token; None removes one."""
    now = int(time.time())
    valid = {
        "iss": ISSUER,
        "aud": CLIENT,
        "iat": now,
        "exp": now + 120,
        "jti": f"token-{next(_numbers)}",
        "events": {EVENT: {}},
        "sid": "s-1",
        "sub": "u-1",
    }
    return {name: value for name, value in {**valid, **changes}.items() if value is not None}


def signed(
    given: Mapping[str, Any] | None = None,
    key: Any = RSA,
    algorithm: str = "RS256",
    **header: Any,
) -> str:
    head = {"alg": algorithm, "kid": key.kid, "typ": "logout+jwt", **header}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, dict(given or claims()), key, algorithms=[algorithm])


async def post(app: BackchannelLogout, token: str | None, **options: Any) -> httpx.Response:
    body = {} if token is None else {"logout_token": token}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="https://shop",
    ) as client:
        return await client.request("POST", "/", **{"data": body, **options})


@pytest.fixture
def endpoint(store: SessionStore) -> BackchannelLogout:
    return BackchannelLogout(store, issuer=ISSUER, client_id=CLIENT, jwks=KEYS)


async def log_in(store: SessionStore, **link: Any) -> str:
    session = await open_session(store).load()
    await session.login("ann", issuer=ISSUER, **(link or {"sid": "s-1", "sub": "u-1"}))
    await session.save()
    return new_id(session)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "PS256"), (RSA, "RS512"), (EC, "ES256"), (ED, "Ed25519")],
    ids=["RS256", "PS256", "RS512", "ES256", "Ed25519"],
)
async def test_a_valid_token_ends_the_session(
    store: SessionStore, endpoint: BackchannelLogout, key: Any, algorithm: str
) -> None:
    """200, nothing to store, and the session is gone when the answer arrives."""
    mine, other = await log_in(store), await log_in(store, sid="s-2", sub="u-1")
    answer = await post(endpoint, signed(key=key, algorithm=algorithm))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert [await is_live(store, mine), await is_live(store, other)] == [False, True]


@pytest.mark.parametrize("typ", [None, "JWT", "logout+jwt"])
@pytest.mark.parametrize("given", [{"sid": None}, {"sub": None}, {"aud": ["x", CLIENT]}])
async def test_the_shapes_of_a_valid_token(
    store: SessionStore, endpoint: BackchannelLogout, given: Any, typ: str | None
) -> None:
    """A sid, a sub, or both; one audience or several; with a type or without."""
    mine = await log_in(store)
    assert (await post(endpoint, signed(claims(**given), typ=typ))).status_code == 200
    assert not await is_live(store, mine)


async def test_a_sub_ends_all_sessions(store: SessionStore, endpoint: BackchannelLogout) -> None:
    """Without a sid, the user is logged out everywhere."""
    ids = [await log_in(store, sid=f"s-{number}", sub="u-1") for number in range(3)]
    await post(endpoint, signed(claims(sid=None)))
    assert not any([await is_live(store, one) for one in ids])


async def test_nothing_to_end_is_fine(endpoint: BackchannelLogout) -> None:
    """The session may have expired long ago."""
    assert (await post(endpoint, signed())).status_code == 200


def _now(seconds: float) -> Callable[[], float]:
    return lambda: int(time.time() + seconds)


#: What is wrong with a token, and what the answer says.
INVALID: dict[str, tuple[Callable[[], str | None], str]] = {
    "another issuer": (lambda: signed(claims(iss="https://evil.example")), "`iss`"),
    "no issuer": (lambda: signed(claims(iss=None)), "`iss`"),
    "another client": (lambda: signed(claims(aud="other")), "`aud`"),
    "no audience": (lambda: signed(claims(aud=None)), "`aud`"),
    "other audiences": (lambda: signed(claims(aud=["a", "b"])), "`aud`"),
    "a part of the client's name": (lambda: signed(claims(aud="my-shop")), "`aud`"),
    "no iat": (lambda: signed(claims(iat=None)), "`iat`"),
    "an iat that is text": (lambda: signed(claims(iat="now")), "`iat`"),
    "an iat of tomorrow": (lambda: signed(claims(iat=_now(86_400)())), "`iat`"),
    "an iat of yesterday": (lambda: signed(claims(iat=_now(-86_400)())), "`iat`"),
    "no exp": (lambda: signed(claims(exp=None)), "`exp`"),
    "expired": (lambda: signed(claims(exp=_now(-120)())), "expired"),
    "valid for years": (lambda: signed(claims(exp=_now(10**8)())), "more than a day"),
    "no events": (lambda: signed(claims(events=None)), "`events`"),
    "another event": (lambda: signed(claims(events={"http://other": {}})), "`events`"),
    "an event that is a text": (lambda: signed(claims(events={EVENT: "yes"})), "`events`"),
    "a nonce": (lambda: signed(claims(nonce="n")), "`nonce`"),
    "no jti": (lambda: signed(claims(jti=None)), "`jti`"),
    "a jti that is a number": (lambda: signed(claims(jti=1)), "`jti`"),
    "neither sid nor sub": (lambda: signed(claims(sid=None, sub=None)), "neither"),
    "a sid that is a list": (lambda: signed(claims(sid=["s-1"])), "`sid`"),
    "an empty sub": (lambda: signed(claims(sub="")), "`sub`"),
    "an access token": (lambda: signed(typ="at+jwt"), "`typ`"),
    "another key": (lambda: signed(key=OTHER), "signature"),
    "an unknown key": (lambda: signed(key=NEW), "signature"),
    "no signature": (lambda: signed().rpartition(".")[0] + ".", "signature"),
    "alg none": (lambda: "eyJhbGciOiJub25lIn0.e30.", "signature"),
    "a shared secret": (lambda: signed(key=SHARED, algorithm="HS256"), "signature"),
    "a public number as a secret": (
        lambda: signed(
            key=OctKey.import_key(str(RSA.as_dict()["n"])), algorithm="HS256", kid="rsa"
        ),
        "signature",
    ),
    "changed claims": (lambda: _with_claims_of(signed(claims(sid="s-9")), signed()), "signature"),
    "no JWT": (lambda: "nonsense", "signature"),
    "empty": (lambda: "", "logout_token"),
    "no token": (lambda: None, "logout_token"),
}


def _with_claims_of(other: str, token: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


@pytest.mark.parametrize("wrong", INVALID)
async def test_an_invalid_token_is_refused(
    store: SessionStore, endpoint: BackchannelLogout, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400 with the reason, a line in the log without the token, and nothing has ended."""
    mine = await log_in(store)
    token, says = INVALID[wrong][0](), INVALID[wrong][1]
    answer = await post(endpoint, token)
    assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
    assert answer.json()["error"] == "invalid_request"
    assert says in answer.json()["error_description"]
    assert says in caplog.text
    assert not token or token not in caplog.text
    assert await is_live(store, mine)


async def test_a_token_is_used_once(store: SessionStore, endpoint: BackchannelLogout) -> None:
    """The same token again, after the user has logged in anew."""
    token = signed(claims(sid=None))
    assert (await post(endpoint, token)).status_code == 200
    mine = await log_in(store, sid="s-2", sub="u-1")
    answer = await post(endpoint, token)
    assert answer.status_code == 400
    assert "`jti` was used before" in answer.json()["error_description"]
    assert await is_live(store, mine)


async def test_other_requests_are_refused(endpoint: BackchannelLogout) -> None:
    """Two tokens, or a body of any length."""
    two = urlencode([("logout_token", signed()), ("logout_token", signed())])
    form = {"content-type": "application/x-www-form-urlencoded"}
    for options in ({"content": two, "headers": form}, {"data": {"logout_token": "x" * 70_000}}):
        assert (await post(endpoint, None, **options)).status_code == 400


async def test_keys_are_fetched_again_for_a_new_one(store: SessionStore) -> None:
    """Rotation: an unknown key is looked up, but nonsense can't make us ask each time."""
    fetched = 0
    keys = {"keys": [RSA.as_dict(private=False)]}

    async def fetch() -> dict[str, Any]:
        nonlocal fetched
        fetched += 1
        return keys

    endpoint = BackchannelLogout(store, issuer=ISSUER, client_id=CLIENT, jwks=fetch)
    assert fetched == 0
    assert (await post(endpoint, signed())).status_code == 200
    assert (await post(endpoint, signed(key=NEW))).status_code == 400
    assert fetched == 1  # within the minute
    let_a_minute_pass(endpoint)
    keys = {"keys": [RSA.as_dict(private=False), NEW.as_dict(private=False)]}
    assert (await post(endpoint, signed(key=NEW))).status_code == 200
    for _ in range(3):
        assert (await post(endpoint, signed(key=OTHER))).status_code == 400
    assert fetched == 2


async def test_the_keys_can_not_be_fetched(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """400, with the reason in the log; the next token asks again."""
    answers: list[Any] = [OSError("unreachable"), {"no": "keys"}, KEYS]

    async def fetch() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    endpoint = BackchannelLogout(store, issuer=ISSUER, client_id=CLIENT, jwks=fetch)
    for _ in range(2):
        assert (await post(endpoint, signed())).status_code == 400
        assert "can't be read" in caplog.text
    assert (await post(endpoint, signed())).status_code == 200


async def test_a_failure_can_be_tried_again(store: SessionStore) -> None:
    """Redis is away: 400, as the specification says, and the token counts as not used."""
    token = signed()
    down = SessionStore.from_url("redis://127.0.0.1:1/0", prefix=store.prefix)
    failing = BackchannelLogout(down, issuer=ISSUER, client_id=CLIENT, jwks=KEYS)
    assert (await post(failing, token)).status_code == 400
    working = BackchannelLogout(store, issuer=ISSUER, client_id=CLIENT, jwks=KEYS)
    assert (await post(working, token)).status_code == 200


async def test_a_real_server(store: SessionStore, session_redis_url: str) -> None:
    """Through uvicorn, as a provider sends it."""
    mine = await log_in(store)
    own = SessionStore.from_url(session_redis_url, prefix=store.prefix)
    with serve(
        BackchannelLogout(own, issuer=ISSUER, client_id=CLIENT, jwks=KEYS), lifespan="off"
    ) as url:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.post(url, data={"logout_token": signed()})
            assert answer.status_code == 200
            assert (await client.get(url)).status_code == 400
    assert not await is_live(store, mine)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"store": "redis://"}, "takes a SessionStore"),
        ({"issuer": 1}, "takes a text"),
        ({"issuer": ""}, "is empty"),
        ({"client_id": None}, "takes a text"),
        ({"jwks": "https://id.example.com/jwks"}, "a JWK Set as a dict, or an async function"),
    ],
)
async def test_unusable_options_are_refused(
    store: SessionStore, options: Mapping[str, Any], error: str
) -> None:
    """One sentence that names the cure."""
    valid: dict[str, Any] = {"issuer": ISSUER, "client_id": CLIENT, "jwks": KEYS}
    with pytest.raises((TypeError, ValueError), match=error):
        BackchannelLogout(**{"store": store, **valid, **options})


def test_the_tests_keys_are_what_they_seem() -> None:
    """The provider's keys hold no private part."""
    assert all("d" not in key for key in KEYS["keys"])
    assert len(KEYS["keys"]) == 3

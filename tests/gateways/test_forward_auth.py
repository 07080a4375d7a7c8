"""`ForwardAuth` alone: what it answers, and what it leaves in Redis."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from asgi_redis_session import CookiePolicy, Lifetime, SessionStore
from asgi_redis_session.gateway import ForwardAuth
from asgi_redis_session.testing import SessionKit

from ..cli.common import run
from ..support.documents import blocks
from ..support.internals import handle_of
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN, create, log_in
from .proxies import free_port

pytestmark = pytest.mark.on_cluster

FIELDS = {"X-Session-Plan": "plan", "X-Cart": "cart"}


async def ask(
    gateway: ForwardAuth, session_id: str | None = None, **headers: str
) -> httpx.Response:
    if session_id is not None:
        headers["cookie"] = f"{PLAIN.name}={session_id}"
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/", headers=headers)


@pytest.fixture
def gateway(store: SessionStore) -> ForwardAuth:
    return ForwardAuth(store, cookie=PLAIN, fields=FIELDS)


async def test_a_user(gateway: ForwardAuth, store: SessionStore) -> None:
    """200 with every header, no body, nothing to store, and no cookie."""
    session_id = await log_in(store, "ann", plan="gold", cart=[{"sku": "tea"}])
    answer = await ask(gateway, session_id)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-session-user"] == "ann"
    assert answer.headers["x-session-handle"] == handle_of(store, session_id)
    assert answer.headers["x-session-plan"] == "gold"
    assert json.loads(unquote(answer.headers["x-cart"])) == [{"sku": "tea"}]
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers


async def test_what_is_missing_is_empty(gateway: ForwardAuth, store: SessionStore) -> None:
    """Every 200 has every header, so that the proxy overwrites what a client has sent."""
    answer = await ask(gateway, await log_in(store, "ann"))
    assert (answer.headers["x-session-plan"], answer.headers["x-cart"]) == ("", "")


@pytest.mark.parametrize(
    "value",
    [
        *("a\r\nX-Evil: 1", "a\nb", "\0", "für Zoë", "100 %", "a b", "\x7f", "\u2028", 'a"b'),
        *(1.5, True, {"a": "b\r\n"}, ["\r"], -1, "", "x" * 2000),
    ],
)
async def test_no_value_can_add_a_header(
    gateway: ForwardAuth, store: SessionStore, value: Any
) -> None:
    """A value is printable ASCII in the header, and comes back as it was."""
    session_id = await log_in(store, "ann", plan=value)
    text = (await ask(gateway, session_id)).headers["x-session-plan"]
    assert text.isascii()
    assert all("!" <= letter <= "~" for letter in text)
    shown = unquote(text, errors="strict")
    assert (shown if isinstance(value, str) else json.loads(shown)) == value


@pytest.mark.parametrize("user", ["ann@example.com", "Zoë\r\n", "a b", "x" * 200])
async def test_no_user_can_add_a_header(
    gateway: ForwardAuth, store: SessionStore, user: str
) -> None:
    """The same for user ids, which an identity provider may choose."""
    answer = await ask(gateway, await log_in(store, user))
    assert unquote(answer.headers["x-session-user"]) == user


async def test_everybody_else_is_refused(gateway: ForwardAuth, store: SessionStore) -> None:
    """401: no cookie, nonsense, unknown, anonymous, ended, two at once."""
    anonymous, ended = await create(store, n=1), await log_in(store, "ann")
    await store.users.revoke_all("ann")
    two = f"{await log_in(store, 'bob')}; {PLAIN.name}={await log_in(store, 'bob')}"
    for session_id in (None, "nonsense", "x" * 43, anonymous, ended, two):
        answer = await ask(gateway, session_id)
        assert (answer.status_code, answer.content) == (401, b"")
        assert not [name for name in answer.headers if name.startswith("x-")]


async def test_anonymous_sessions_pass_if_asked_for(store: SessionStore) -> None:
    """With anonymous=True, an empty user and the session's fields."""
    gateway = ForwardAuth(store, cookie=PLAIN, fields=FIELDS, anonymous=True)
    answer = await ask(gateway, await create(store, plan="free"))
    assert (answer.status_code, answer.headers["x-session-user"]) == (200, "")
    assert answer.headers["x-session-plan"] == "free"
    assert (await ask(gateway)).status_code == 401


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/account?tab=1", "/account?tab=1"),
        ("/", "/"),
        (None, "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
async def test_a_browser_is_sent_to_the_login(
    store: SessionStore, asked: str | None, leads_to: str
) -> None:
    """302 with the path in `next`, and never another site's."""
    gateway = ForwardAuth(store, cookie=PLAIN, login_url="/login?via=proxy")
    headers = {} if asked is None else {"x-forwarded-uri": asked}
    answer = await ask(gateway, **headers)
    assert answer.status_code == 302
    location = urlsplit(answer.headers["location"])
    assert location.path == "/login"
    assert parse_qs(location.query) == {"via": ["proxy"], "next": [leads_to]}


async def test_redis_is_away() -> None:
    """503 with Retry-After: nobody is let in, and nobody is sent to log in again."""
    gateway = ForwardAuth(SessionStore.from_url("redis://127.0.0.1:1/0"), cookie=PLAIN)
    answer = await ask(gateway, "x" * 43)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def _age(store: SessionStore, admin: Any, session_id: str) -> tuple[str, int]:
    """Let a session have a minute left; returns its key and that time."""
    key = f"{store.prefix}:{handle_of(store, session_id)}"
    admin.pexpire(key, 60_000)
    return key, 60_000


async def test_it_extends_the_ttl(gateway: ForwardAuth, store: SessionStore, admin: Any) -> None:
    """By the idle time that the session names."""
    key, left = await _age(store, admin, session_id := await log_in(store, "ann"))
    await ask(gateway, session_id)
    await store.drain()
    assert admin.pttl(key) > 29 * left


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_session_that_names_no_idle_time(
    store: SessionStore, admin: Any, is_known: bool
) -> None:
    """Version 0.1 has written it: extended only if the gateway knows the app's lifetime."""
    gateway = ForwardAuth(store, cookie=PLAIN, idle_is_known=is_known)
    key, left = await _age(store, admin, session_id := await log_in(store, "ann"))
    admin.hdel(key, "@idle")
    assert (await ask(gateway, session_id)).status_code == 200
    await store.drain()
    assert (admin.pttl(key) > left) is is_known


async def test_another_lifetime_shortens_nothing(
    store: SessionStore, admin: Any, session_redis_url: str
) -> None:
    """A gateway whose store has a shorter lifetime uses that of the session."""
    brief = SessionStore.from_url(
        session_redis_url, prefix=store.prefix, lifetime=Lifetime(idle=60)
    )
    gateway = ForwardAuth(brief, cookie=PLAIN)
    key, left = await _age(store, admin, session_id := await log_in(store, "ann"))
    await ask(gateway, session_id)
    await brief.drain()
    assert admin.pttl(key) > 29 * left
    await brief.aclose()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"store": "redis://"}, "takes a SessionStore"),
        ({"cookie": "session"}, "takes a CookiePolicy"),
        ({"fields": ["plan"]}, "takes header names and fields"),
        ({"fields": {"X Plan": "plan"}}, "is no name for a header"),
        ({"fields": {"Set-Cookie": "plan"}}, "is no name for a header"),
        ({"fields": {"X-Plan\r\n": "plan"}}, "is no name for a header"),
        ({"fields": {"X-Plan": 1}}, "takes the name of a field"),
        ({"fields": {"x-session-user": "plan"}}, "two of them are taken"),
        ({"fields": {"X-Plan": "a", "x-plan": "b"}}, "two of them are taken"),
        ({"idle_is_known": 1}, "takes True or False"),
        ({"anonymous": "yes"}, "takes True or False"),
        ({"login_url": 1}, "takes a URL or None"),
        ({"login_url": "login"}, "give a path"),
        ({"login_url": "/log in"}, "give a path"),
        ({"uri_header": "X Y"}, "is no name for a header"),
    ],
)
async def test_unusable_options_are_refused(
    store: SessionStore, options: Mapping[str, Any], error: str
) -> None:
    """One sentence that names the cure."""
    with pytest.raises((TypeError, ValueError), match=error):
        ForwardAuth(**{"store": store, **options})


async def test_the_documented_app(sessions: SessionKit) -> None:
    """The app of docs/gateways.md, in a real server, which closes the store in the end."""
    (code,) = blocks("docs/gateways.md", "python")
    namespace: dict[str, Any] = {
        "ForwardAuth": ForwardAuth,
        "CookiePolicy": CookiePolicy,
        "SessionStore": type(
            "Store", (), {"from_url": lambda _: SessionStore.from_url(
                sessions.url, prefix=sessions.prefix)}
        ),
    }  # fmt: skip
    exec(code, namespace)
    cookies = sessions.cookies({"plan": "gold"}, user=7, cookie=PLAIN)
    with serve(namespace["app"]) as url:
        async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=PATIENCE) as client:
            answer = await client.get("/anything?at=all")
            assert answer.headers["x-session-user"] == "7"
            assert answer.headers["x-session-plan"] == "gold"
            assert (await client.post("/")).status_code == 200


@pytest.mark.one_node
def test_the_command(sessions: SessionKit, tmp_path: Path) -> None:
    """`python -m asgi_redis_session gateway` with a secret and a field."""
    secret = tmp_path / "secrets"
    secret.write_text("new-secret-of-the-store-0123456789\n")
    port = free_port()
    command = [sys.executable, "-m", "asgi_redis_session", "gateway", "--redis", sessions.url]
    command += ["--prefix", sessions.prefix, "--cookie", "session", "--port", str(port)]
    command += ["--secret-file", str(secret), "--field", "X-Session-Plan=plan"]

    async def session_id() -> str:
        async with SessionStore.from_url(
            sessions.url, prefix=sessions.prefix, secret=secret.read_text().strip()
        ) as store:
            return await log_in(store, "ann", plan="gold")

    cookie = {"cookie": f"session={asyncio.run(session_id())}"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/", headers=cookie, timeout=20)
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert answer.headers["x-session-plan"] == "gold"
            assert "server" not in answer.headers
        finally:
            process.terminate()


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--field", "plan"], "give a header and a field"),
        (["--cookie", "no name"], "no name"),
        (["--idle", "0"], "idle"),
        (["--secret-file", "/nowhere"], "/nowhere"),
        (["--login-url", "login"], "give a path"),
    ],
)
def test_wrong_arguments_of_the_command(arguments: list[str], says: str) -> None:
    """Exit status 2 and what is wrong, without a traceback."""
    done = run("gateway", "--redis", "redis://localhost", *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())

"""Encrypted sessions seen and changed without their id."""

import base64
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import itsdangerous
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from asgi_redis_session import SEALED, SessionSealed, SessionStore, Tag
from asgi_redis_session.cli.commands import commands
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.gateway import ForwardAuth

from ..support.internals import handle_of, key_of, open_session
from ..support.sessions import PLAIN, create, is_live, log_in, opened
from .conftest import Make, is_sealed, unreadable

pytestmark = pytest.mark.on_cluster


async def test_get_shows_which_values_are_sealed(sealed: SessionStore, store: SessionStore) -> None:
    """Names and plain values are there; any store shows it so, also one that can't decrypt."""
    session_id = await log_in(sealed, "ann", card="visa", visits=3)
    handle = handle_of(sealed, session_id)
    for looking in (sealed, store):
        info = await looking.get(handle)
        assert info is not None
        assert info.user_id == "ann"
        assert info.fields == {"card": SEALED, "visits": 3}
    (listed,) = await sealed.users.list("ann")
    assert listed.fields == {"card": SEALED, "visits": 3}


def test_the_marker_is_no_value() -> None:
    """It shows its name, and can't be taken for text: JSON refuses it."""
    assert repr(SEALED) == str(SEALED) == "SEALED"
    with pytest.raises(TypeError):
        json.dumps({"card": SEALED})


async def test_edit_says_why_it_can_not(sealed: SessionStore) -> None:
    """On entry, with what to do; the session stays as it is."""
    session_id = await create(sealed, card="visa")
    with pytest.raises(SessionSealed, match=r"Change it in a request or in `store\.open`"):
        async with sealed.edit(handle_of(sealed, session_id)):
            pass
    assert dict(await open_session(sealed, session_id).load()) == {"card": "visa"}


async def test_ending_needs_no_key(sealed: SessionStore) -> None:
    """By its handle, and by its user."""
    first, second = [await log_in(sealed, "ann", card="visa") for _ in range(2)]
    assert await sealed.revoke(handle_of(sealed, first))
    assert await sealed.users.revoke_all("ann") == 1
    assert not await is_live(sealed, first)
    assert not await is_live(sealed, second)


async def test_open_has_the_cookie(sealed: SessionStore) -> None:
    """So it reads, writes and logs in as a request does."""
    session_id = await create(sealed, card="visa")
    async with sealed.open(f"session={session_id}", cookie=PLAIN) as opened:
        assert opened.session["card"] == "visa"
        await opened.session.login("ann")
        opened.session["n"] = 1
    assert opened.set_cookie is not None
    new = opened.set_cookie.partition(";")[0].partition("=")[2]
    assert dict(await open_session(sealed, new).load()) == {"card": "visa", "n": 1}


async def test_a_store_without_encryption_says_what_it_lacks(
    sealed: SessionStore, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The session counts as unreadable, and the log says why."""
    session_id = await create(sealed, card="visa")
    session = await open_session(store, session_id).load()
    assert session.absence is not None
    assert session.absence.kind == unreadable(store)
    assert "it is encrypted, and this store has no encryption= to read it" in caplog.text
    assert "visa" not in caplog.text


@pytest.mark.needs_search
@pytest.mark.one_node
async def test_a_search_finds_by_what_is_declared(store_with: Make) -> None:
    """Its fields are plain; the others are shown as sealed."""
    store = store_with(index=[Tag("tenant")])
    await store.search.create_index()
    await log_in(store, "ann", tenant="acme", card="visa")
    found = [info async for info in store.search.find(Tag("tenant") == "acme")]
    assert [info.user_id for info in found] == ["ann"]
    assert found[0].fields.get("card", SEALED) is SEALED
    await store.search.drop_index()


async def test_the_drop_in_encrypts_what_it_takes_over(
    sealed: SessionStore, admin: Any, prefix: str
) -> None:
    """A session of Starlette's signed cookie is encrypted from its first moment on."""

    def show(request: Request) -> JSONResponse:
        request.session["seen"] = True
        return JSONResponse(dict(request.session))

    secret = "s" * 32
    app = Starlette(routes=[Route("/", show)])
    app.add_middleware(DropIn, secret_key=secret, store=sealed, import_cookies=True)
    payload = base64.b64encode(json.dumps({"card": "visa"}).encode())
    cookie = itsdangerous.TimestampSigner(secret).sign(payload).decode()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://app", cookies={"session": cookie}
    ) as client:
        for _ in range(2):
            assert (await client.get("/")).json() == {"card": "visa", "seen": True}
        (key,) = [key for key in admin.scan_iter(f"{prefix}:*") if b"{" not in key]
        raws = admin.hgetall(key)
        assert is_sealed(raws[b"card"])
        assert is_sealed(raws[b"seen"])


@pytest.mark.one_node
async def test_the_doctor_says_how_far_the_way_is(alone: DevServer, prefix: str) -> None:
    """It counts in its sample; sealed sessions are nothing that another program has written."""
    async with AsyncExitStack() as stack:

        async def opened_with(step: Any) -> SessionStore:
            plain = ["visits"] if step else []
            store = opened(alone.url, prefix, encryption=step, plain=plain)
            return await stack.enter_async_context(store)

        async def says(step: Any) -> list[tuple[str, str]]:
            findings = (await (await opened_with(step)).check(write=True)).findings
            assert not [each for each in findings if each.level == "problem"] or step is True
            return [(each.level, each.message) for each in findings if each.name == "encryption"]

        await create(await opened_with(True), card="visa", visits=1)
        store = await opened_with(False)
        await create(store, visits=1)
        for step in ("migrate", True):
            (ok,) = await says(step)
            assert ok == ("ok", "All values in a sample of 2 sessions are encrypted.")
        await create(store, card="visa")
        for step, level, message in (
            (False, "advice", "1 of a sample of 3 sessions hold encrypted values"),
            ("read", "ok", "1 of a sample of 3 sessions hold plain values. When all"),
            (
                "migrate",
                "advice",
                "1 of a sample of 3 sessions hold plain values. Each is encrypted",
            ),
            (True, "problem", "1 of a sample of 3 sessions hold plain values, so they are treated"),
        ):
            ((found, said),) = await says(step)
            assert (found, said[: len(message)]) == (level, message)


async def test_no_key_is_left_in_what_is_shown(sealed: SessionStore) -> None:
    """Neither `repr` of the store nor of a session shows an id, a key or a value."""
    session_id = await create(sealed, card="visa")
    session = await open_session(sealed, session_id).load()
    shown = f"{sealed!r} {session!r} {key_of(sealed, session_id)}"
    assert session_id not in shown
    assert "visa" not in shown


async def test_the_gateway_has_the_cookie(sealed: SessionStore) -> None:
    """It names the user, and the fields that it is asked for; without encryption= it knows none."""
    session_id = await log_in(sealed, "ann", card="visa")
    app = ForwardAuth(sealed, cookie=PLAIN, fields={"X-Session-Card": "card"})
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://app", cookies={"session": session_id}
    ) as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["x-session-user"] == "ann"
    assert answer.headers["x-session-card"] == "visa"


@pytest.mark.parametrize(
    ("step", "says"), [("on", "use True, 'read', 'migrate'"), ("", "use True")]
)
def test_the_gateways_command_refuses_another_step(step: str, says: str) -> None:
    """Before it listens."""
    options = ["gateway", "--redis", "redis://localhost:1", "--encryption", step]
    result = CliRunner().invoke(commands, options)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())

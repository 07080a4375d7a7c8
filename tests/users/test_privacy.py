"""What a login records of where it came from, and a user's data: exported, and erased."""

import json
import re
from datetime import datetime
from typing import Any

import httpx
import pytest

from asgi_redis_session import SessionStore, SessionUnreadable, SessionValueError

from ..support.documents import blocks
from ..support.internals import handle_of, open_session
from ..support.keyspace import look
from ..support.sessions import PLAIN, create, is_live, log_in, opened
from .app import app_of

pytestmark = pytest.mark.on_cluster

AGENT = "Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0"


def documented(text: str, **names: Any) -> dict[str, Any]:
    """What the block of the page that contains this text defines."""
    (block,) = [block for block in blocks("docs/privacy.md", "python") if text in block]
    exec(block, names)
    return names


async def logged_in_from(store: SessionStore, address: str, agent: str = AGENT) -> str:
    """Ann logs in from this address; returns her session's handle."""
    transport = httpx.ASGITransport(app_of(store), client=(address, 0))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/in/ann", headers={"user-agent": agent})
        assert answer.status_code == 200
        return handle_of(store, client.cookies[PLAIN.name])


async def test_an_origin_is_not_recorded(session_redis_url: str, prefix: str, admin: Any) -> None:
    """`record_origin=False`: neither address nor user agent, in no field and no shadow."""
    async with opened(session_redis_url, prefix, record_origin=False) as store:
        handle = await logged_in_from(store, "192.0.2.77")
        info = await store.get(handle)
        assert info is not None
        assert (info.address, info.user_agent, info.label) == (None, None, None)
        held = admin.hgetall(f"{prefix}:{handle}")
        assert not {b"@ip", b"@agent"} & held.keys()
        assert not [value for value in held.values() if b"192.0.2" in value or b"Firefox" in value]


async def test_an_origin_that_is_no_longer_recorded(session_redis_url: str, prefix: str) -> None:
    """A login with the option removes what one without it has recorded on the same session."""
    async with opened(session_redis_url, prefix) as before:
        transport = httpx.ASGITransport(app_of(before), client=("192.0.2.77", 0))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/in/ann", headers={"user-agent": AGENT})
            old = client.cookies[PLAIN.name]
        info = await before.get(handle_of(before, old))
        assert info is not None
        assert (info.address, info.user_agent) == ("192.0.2.77", AGENT)
    async with opened(session_redis_url, prefix, record_origin=False) as store:
        await log_in(store, "ann", old)
        (info,) = await store.users.list("ann")
        assert (info.address, info.user_agent) == (None, None)
        assert info.fields == {"greeted": True}


@pytest.mark.parametrize(
    ("address", "recorded"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2::77", "2001:db8:1::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("/run/app.sock", None),
    ],
)
async def test_an_address_is_shortened(
    session_redis_url: str, prefix: str, address: str, recorded: str | None
) -> None:
    """By the page's function: networks of /24 and /48 in the place of addresses."""
    names = documented("def shortened", redis_url=session_redis_url, SessionStore=SessionStore)
    async with opened(session_redis_url, prefix, record_origin=names["shortened"]) as store:
        info = await store.get(await logged_in_from(store, address))
        assert info is not None
        assert info.address == recorded
        assert info.user_agent == AGENT


async def test_what_a_function_returns_is_cut_and_can_be_stored(
    session_redis_url: str, prefix: str
) -> None:
    """512 characters, as without it; half a surrogate pair is replaced."""
    async with opened(
        session_redis_url, prefix, record_origin=lambda *_: ("x" * 600, "\ud800")
    ) as store:
        info = await store.get(await logged_in_from(store, "192.0.2.77"))
        assert info is not None
        assert (info.address, info.user_agent) == ("x" * 512, "?")


@pytest.mark.parametrize(
    "returned", [None, "192.0.2.0", ("a",), ("a", "b", "c"), ["a", "b"], (1, "b")]
)
async def test_a_function_that_returns_something_else(
    session_redis_url: str, prefix: str, admin: Any, returned: Any
) -> None:
    """`login` raises before anything is written, and does not show what was returned."""
    async with opened(session_redis_url, prefix, record_origin=lambda *_: returned) as store:
        session = await open_session(store, None).load()
        with pytest.raises(TypeError, match=re.escape("return (address, user_agent)")) as caught:
            await session.login("ann")
        assert "192.0.2" not in str(caught.value)
        assert await store.users.count("ann") == 0
        assert not look(admin, prefix).users


async def test_export_has_all_of_a_user(store: SessionStore) -> None:
    """Every session with its fields, as JSON takes it, the latest first, and of nobody else."""
    await log_in(store, "bob", secret="bob's")
    first = await log_in(store, "ann", cart=["sku"], n=1)
    second = await log_in(store, "ann", plan="gold")
    await create(store, visitor=True)
    exported = json.loads(json.dumps(await store.users.export("ann")))
    assert [e["handle"] for e in exported] == [handle_of(store, i) for i in (second, first)]
    assert [e["fields"] for e in exported] == [{"plan": "gold"}, {"cart": ["sku"], "n": 1}]
    assert {e["user_id"] for e in exported} == {"ann"}
    info = await store.get(handle_of(store, first))
    assert info is not None
    assert datetime.fromisoformat(exported[1]["created_at"]) == info.created_at
    assert await store.users.export("nobody") == []


async def test_export_is_complete(store: SessionStore) -> None:
    """More sessions than one page has."""
    for n in range(510):
        await log_in(store, "ann", n=n)
    assert sorted(e["fields"]["n"] for e in await store.users.export("ann")) == list(range(510))


async def test_export_refuses_to_be_incomplete(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A session that can't be read raises; nothing is exported, and the session stays."""
    await log_in(store, "ann", n=1)
    handle = handle_of(store, await log_in(store, "ann", n=2))
    admin.hset(f"{prefix}:{handle}", "@v", "99")
    with pytest.raises(SessionUnreadable, match="so nothing was exported"):
        await store.users.export("ann")
    assert admin.exists(f"{prefix}:{handle}")


async def test_erase_leaves_nothing_of_a_user(store: SessionStore, admin: Any, prefix: str) -> None:
    """No session, no list; other users and anonymous visitors keep theirs."""
    mine = [await log_in(store, "ann", n=n) for n in range(3)]
    others = [await log_in(store, "bob", n=1), await create(store, n=1)]
    assert await store.users.erase("ann") == 3
    assert not [i for i in mine if await is_live(store, i)]
    assert all([await is_live(store, i) for i in others])
    kept = look(admin, prefix)
    assert sorted(kept.users.values()) == ["", "bob"]
    assert len(kept.places) == 1
    assert await store.users.export("ann") == []
    assert await store.users.erase("ann") == 0
    await log_in(store, "ann", n=1)
    page = documented("async def forget", store=store, json=json)
    assert [held["fields"] for held in json.loads(await page["answer"]("ann"))] == [{"n": 1}]
    assert await page["forget"]("ann") == 1
    with pytest.raises(SessionValueError):
        await store.users.erase("")

"""`append`: items at the end of a list, added in Redis."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import Limits, SessionGone, SessionStore, SessionValueError, Tag, Text

from ..support.internals import handle_of, key_of, open_session
from ..support.sessions import create
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

#: What would come back different from Lua's own JSON, or looks like a list's marks inside text.
AWKWARD: list[Any] = [
    *([], {}, [[]], {"a": []}, {"a": {"b": [1, [2]]}}),
    *(2**63, -(2**64), 10**40, 1e300, 0.1, 5e-324, 1.0, -0.0),
    *("", ",", "]", "[", '"', '\\"', "\\", '\\\\",[', "},{", "ä€😀", "\n\t\x00", "null", "'x"),
    *(True, False, None),
]


@pytest.mark.parametrize("seed", range(5))
async def test_10_requests_that_add_at_once_add_10(store: SessionStore, seed: int) -> None:
    """In every order in which their steps may run, some loaded before, others not."""
    session_id = await create(store, n=0)
    order, waiting = random.Random(seed), list[asyncio.Event]()
    steps = Steps(store)

    async def on_step(name: str, _: int, send: Callable[[], Awaitable[Any]]) -> Any:
        if name == "append":
            turn = asyncio.Event()
            waiting.append(turn)
            await turn.wait()
        return await send()

    async def add(number: int) -> int:
        session = open_session(store, session_id)
        if number % 2:
            await session.load()
            session[f"n{number}"] = number
        items = await session.append("seen", number, keep=50)
        if number % 2:
            assert number in session["seen"]
            await session.save()
        return items

    steps.on_step = on_step
    adding = [asyncio.create_task(add(number)) for number in range(10)]
    async with asyncio.timeout(30):
        for left in range(10, 0, -1):
            while len(waiting) < left:
                await asyncio.sleep(0)
            waiting.pop(order.randrange(len(waiting))).set()
            await asyncio.wait(adding, return_when=asyncio.FIRST_COMPLETED)
            adding_before = [task for task in adding if task.done()]
            while len(adding_before) < 11 - left:
                await asyncio.sleep(0)
                adding_before = [task for task in adding if task.done()]
    steps.stop()
    assert sorted(await asyncio.gather(*adding)) == list(range(1, 11))
    session = await open_session(store, session_id).load()
    assert sorted(session["seen"]) == list(range(10))
    assert len(session) == 7


async def test_append_beside_transform_and_save(store: SessionStore) -> None:
    """`transform` sees what was appended; a save of another field leaves it alone."""
    session_id = await create(store, n=0, seen=["a"])
    late = await open_session(store, session_id).load()
    assert late["seen"] == ["a"]
    await open_session(store, session_id).append("seen", "b", keep=9)
    assert await late.transform("seen", lambda seen: [*seen, "c"]) == ["a", "b", "c"]
    other = await open_session(store, session_id).load()
    other["n"] = 1
    await late.append("seen", "d", keep=9)
    await other.save()
    assert await open_session(store, session_id).fetch("seen", "n") == {
        "seen": ["a", "b", "c", "d"],
        "n": 1,
    }


async def test_it_appends_at_once_and_needs_no_load(store: SessionStore) -> None:
    """One script; the session stays unloaded, and a loaded one shows the list as it is in Redis."""
    session_id = await create(store, n=1)
    session = open_session(store, session_id)
    steps = Steps(store)
    assert await session.append("seen", "a", keep=2) == 1
    assert not session.loaded
    assert steps.names == ["append"]
    loaded = await open_session(store, session_id).load()
    await session.append("seen", "b", keep=2)
    assert await loaded.append("seen", "c", keep=2) == 2
    assert loaded["seen"] == ["b", "c"]
    assert not loaded.modified


async def test_every_value_comes_back_equal(store: SessionStore) -> None:
    """Redis joins text; it never decodes and encodes what an app has stored."""
    session_id = await create(store, n=1)
    session = open_session(store, session_id)
    for count, item in enumerate(AWKWARD, 1):
        assert await session.append("seen", item, keep=1000) == count
    read = (await open_session(store, session_id).load())["seen"]
    assert read == AWKWARD
    assert [type(item) for item in read] == [type(item) for item in AWKWARD]
    for keep in range(len(AWKWARD), 1, -1):
        assert await session.append("seen", keep, keep=keep) == keep
    kept = (await open_session(store, session_id).load())["seen"]
    assert kept == [3, 2]


@pytest.mark.parametrize("keep", [1, 2, 3, 10])
async def test_only_the_last_stay(store: SessionStore, keep: int) -> None:
    """As many as asked for, of nested items, too."""
    session_id = await create(store, n=1)
    session = open_session(store, session_id)
    items = [{"sku": f"a,{number}]", "tags": [number, []]} for number in range(7)]
    for number, item in enumerate(items, 1):
        assert await session.append("seen", item, keep=keep) == min(number, keep)
    assert await open_session(store, session_id).fetch("seen") == {"seen": items[-keep:]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ["x"]),
        (" [ ] ", None),
        ("[ ]", ["x"]),
        ("[1 , 2 ]", [1, 2, "x"]),
        ('[ "a,]" , [ 1 , 2 ] ]\n', ["a,]", [1, 2], "x"]),
        ('["\\u00e4\\"",{"a":"]"}]', ['ä"', {"a": "]"}, "x"]),
    ],
)
async def test_a_list_of_another_writer_is_joined(
    store: SessionStore, admin: Any, text: str, expected: list[Any] | None
) -> None:
    """JSON with blanks and escapes, as other programs write it."""
    session_id = await create(store, n=1)
    admin.hset(key_of(store, session_id), "seen", text)
    if expected is None:  # text, by the rules of the encoding
        with pytest.raises(SessionValueError, match="holds no list"):
            await open_session(store, session_id).append("seen", "x", keep=9)
        return
    await open_session(store, session_id).append("seen", "x", keep=9)
    assert await open_session(store, session_id).fetch("seen") == {"seen": expected}


@pytest.mark.parametrize("held", ["text", 7, 1.5, True, None, {"a": 1}, "[", "'["])
async def test_what_is_no_list_is_refused(store: SessionStore, held: Any) -> None:
    """Loaded or not, stored or staged: the field stays as it was."""
    session_id = await create(store, seen=held)
    for session in (
        open_session(store, session_id),
        await open_session(store, session_id).load(),
    ):
        with pytest.raises(SessionValueError, match="holds no list"):
            await session.append("seen", 1, keep=9)
    staged = await open_session(store).load()
    staged["seen"] = held
    with pytest.raises(SessionValueError, match="holds no list"):
        await staged.append("seen", 1, keep=9)
    assert staged["seen"] == held
    assert await open_session(store, session_id).fetch("seen") == {"seen": held}


@pytest.mark.parametrize("raw", [b"[1,,2]", b"[1", b"[1}", b'["a]', b"[1]]", b"\xff", b"[nope]"])
async def test_a_corrupt_list_stays_as_evidence(
    store: SessionStore, admin: Any, raw: bytes
) -> None:
    """Nothing is added to what is no JSON."""
    session_id = await create(store, n=1)
    admin.hset(key_of(store, session_id), "seen", raw)
    with pytest.raises(SessionValueError, match="holds no list"):
        await open_session(store, session_id).append("seen", 1, keep=9)
    assert admin.hget(key_of(store, session_id), "seen") == raw


async def test_over_staged_changes_and_in_a_new_session(store: SessionStore) -> None:
    """Then the staged value changes, and the commit writes it."""
    session = await open_session(store).load()
    assert await session.append("seen", "a", keep=2) == 1
    assert await session.append("seen", "b", keep=2) == 2
    assert await session.append("seen", "c", keep=2) == 2
    assert session["seen"] == ["b", "c"]
    assert session.is_new
    session_id = await create(store, seen=["a"])
    session = await open_session(store, session_id).load()
    session["seen"].append("b")
    assert await session.append("seen", "c", keep=9) == 3
    assert await open_session(store, session_id).fetch("seen") == {"seen": ["a"]}
    await session.save()
    assert await open_session(store, session_id).fetch("seen") == {"seen": ["a", "b", "c"]}
    unknown = open_session(store, "x" * 43)
    assert await unknown.append("seen", "a", keep=2) == 1
    assert unknown.is_new


async def test_outside_of_requests(store: SessionStore) -> None:
    """In `store.edit` and `store.open`, as in a request."""
    session_id = await create(store, seen=["a"])
    async with store.edit(handle_of(store, session_id)) as session:
        assert await session.append("seen", "b", keep=9) == 2
    async with store.open(None) as opened:
        assert await opened.session.append("seen", "a", keep=9) == 1
    assert opened.set_cookie is not None
    assert await open_session(store, session_id).fetch("seen") == {"seen": ["a", "b"]}


async def test_an_ended_session_gets_no_item(store: SessionStore) -> None:
    """A loaded one raises; nothing is recreated."""
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    await store.revoke(handle_of(store, session_id))
    with pytest.raises(SessionGone):
        await session.append("seen", 1, keep=9)
    assert (await open_session(store, session_id).load()).is_new


async def test_limits_hold(session_redis_url: str, prefix: str) -> None:
    """The number of fields, their size and their depth, loaded or not."""
    limits = Limits(fields=2, field_bytes=20, depth=2)
    async with SessionStore.from_url(session_redis_url, prefix=prefix, limits=limits) as store:
        session_id = await create(store, n=1, seen=["1234567"])
        for loaded in (False, True):
            session = open_session(store, session_id)
            if loaded:
                await session.load()
            with pytest.raises(SessionValueError, match=r"more bytes|more than a field may hold"):
                await session.append("seen", "12345678", keep=9)
            with pytest.raises(SessionValueError, match="nested"):
                await session.append("seen", [[1]], keep=9)
            with pytest.raises(SessionValueError, match=r"'seen'.*tuple"):
                await session.append("seen", (1,), keep=9)
        assert await open_session(store, session_id).append("seen", "12345678", keep=1) == 1
        full = await create(store, a=1, b=2)
        for session in (open_session(store, full), await open_session(store, full).load()):
            with pytest.raises(SessionValueError, match=r"at most 2 fields"):
                await session.append("seen", 1, keep=9)


async def test_an_indexed_list_keeps_its_shadow(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """The copy that Redis Search finds has the new items; what it can't find is refused."""
    index = [Tag("tags"), Text("name")]
    async with SessionStore.from_url(session_redis_url, prefix=prefix, index=index) as store:
        session_id = await create(store, n=1)
        await asyncio.gather(
            *[open_session(store, session_id).append("tags", f"t{n}", keep=9) for n in range(5)]
        )
        session = await open_session(store, session_id).load()
        assert sorted(session["tags"]) == [f"t{n}" for n in range(5)]
        held = admin.hgetall(key_of(store, session_id))
        (shadow,) = [raw for name, raw in held.items() if name.startswith(b"@") and b"t0" in raw]
        assert [f"t{number}".encode() in shadow for number in range(5)] == [True] * 5
        with pytest.raises(SessionValueError, match="name"):
            await session.append("name", 1, keep=9)

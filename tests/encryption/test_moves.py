"""A new id: values are encrypted again, and what other requests write meanwhile moves along."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_redis_session import (
    Limits,
    Session,
    SessionEvent,
    SessionGone,
    SessionStore,
    SessionUnavailable,
)

from ..support.internals import Send, around_scripts, is_cluster, key_of, new_id, open_session
from ..support.keyspace import look
from ..support.sessions import create, is_live, log_in
from .conftest import Held, Make, is_sealed

pytestmark = pytest.mark.on_cluster

Act = Callable[[Session], Awaitable[Any]]


async def _renew(session: Session) -> None:
    session.renew()


async def _log_in(session: Session) -> None:
    await session.login("ann")


MOVES = [pytest.param(_renew, id="renew"), pytest.param(_log_in, id="login")]


async def _write(session: Session) -> None:
    session["a"] = "other"
    session["new"] = 1
    await session.save()


async def _remove(session: Session) -> None:
    del session["a"]
    await session.save()


async def _transform(session: Session) -> None:
    await session.transform("a", lambda a: f"{a}, changed")


async def _take(session: Session) -> None:
    await session.take("b")


async def _count(session: Session) -> None:
    await session.increment("visits")


async def _nothing(session: Session) -> None:
    pass


MEANWHILE: list[Any] = [
    pytest.param(_nothing, {"a": "mine", "b": [2], "visits": 1}, id="nothing"),
    pytest.param(_write, {"a": "other", "b": [2], "visits": 1, "new": 1}, id="write"),
    pytest.param(_remove, {"b": [2], "visits": 1}, id="remove"),
    pytest.param(_transform, {"a": "mine, changed", "b": [2], "visits": 1}, id="transform"),
    pytest.param(_take, {"a": "mine", "visits": 1}, id="take"),
    pytest.param(_count, {"a": "mine", "b": [2], "visits": 2}, id="increment"),
]


def before_the_first_move(
    store: SessionStore, act: Callable[[], Awaitable[Any]], *, is_taken: bool = False
) -> list[str]:
    """Let this happen after the session was read, and before its key changes; returns the steps."""
    steps: list[str] = []
    first = "take_hash" if is_taken or is_cluster(store) else None

    async def around(name: str, send: Send) -> Any:
        is_move = name == first if first else name in ("save", "login")
        if is_move:
            steps.append(name)
            if len(steps) == 1:
                await act()
        return await send()

    around_scripts(store, around)
    return steps


@pytest.mark.parametrize("user", [None, "ann"])
@pytest.mark.parametrize(("meanwhile", "expected"), MEANWHILE)
@pytest.mark.parametrize("move", MOVES)
async def test_a_concurrent_write_moves_along(
    store_with: Make,
    sealed: SessionStore,
    held: Held,
    *,
    move: Act,
    meanwhile: Act,
    expected: Any,
    user: str | None,
) -> None:
    """As it does without encryption; the values are encrypted under the new key, all of them."""
    fields: dict[str, Any] = {"a": "mine", "b": [2], "visits": 1}
    make = create(sealed, **fields) if user is None else log_in(sealed, user, **fields)
    session_id = await make
    other = store_with(plain=["visits"])
    session = await open_session(sealed, session_id).load()
    await move(session)
    session["mine"] = True

    async def act() -> None:
        await meanwhile(await open_session(other, session_id).load())

    steps = before_the_first_move(sealed, act)
    await session.save()
    assert len(steps) == (1 if meanwhile in (_nothing, _count) else 2)
    moved = new_id(session)
    assert dict(await open_session(other, moved).load()) == {**expected, "mine": True}
    assert not await is_live(other, session_id)
    assert {name for name, raw in held(moved).items() if not is_sealed(raw)} == {"visits"}
    # And the request that moved it goes on with it.
    session["later"] = 1
    await session.save()
    assert await session.transform("mine", lambda mine: not mine) is False
    assert (await open_session(other, moved).load())["later"] == 1


@pytest.mark.parametrize("move", MOVES)
async def test_own_changes_win(store_with: Make, sealed: SessionStore, move: Act) -> None:
    """What the moving request has changed itself replaces what others write meanwhile."""
    session_id = await create(sealed, a=1, b=1, c=1)
    session = await open_session(sealed, session_id).load()
    await move(session)
    session["a"] = 2
    del session["b"]
    other = store_with()

    async def act() -> None:
        another = await open_session(other, session_id).load()
        another.update(a=3, b=3, c=3)
        await another.save()

    before_the_first_move(sealed, act)
    await session.save()
    assert dict(await open_session(other, new_id(session)).load()) == {"a": 2, "c": 3}


@pytest.mark.parametrize("move", MOVES)
async def test_moves_beside_many_writers(sealed: SessionStore, move: Act) -> None:
    """Each of 40 writers either finds the old session, and its write moves along, or is told."""
    session_id = await create(sealed, n=0)
    session = await open_session(sealed, session_id).load()
    await move(session)
    written = []

    async def write(number: int) -> None:
        another = await open_session(sealed, session_id).load()
        if another.is_new:
            return
        another[f"n{number}"] = number
        try:
            await another.save()
        except SessionGone:
            return
        written.append(number)

    await asyncio.gather(*map(write, range(20)), session.save(), *map(write, range(20, 40)))
    moved = await open_session(sealed, new_id(session)).load()
    assert {name for name in moved if name != "n"} == {f"n{number}" for number in written}


@pytest.mark.parametrize("move", MOVES)
async def test_a_session_that_never_rests_is_given_up(
    store_with: Make, prefix: str, admin: Any, move: Act
) -> None:
    """After the timeout, with the old session as it was; nothing is half done."""
    store, other = store_with(timeout=0.5), store_with()
    session_id = await create(other, n=0)
    session = await open_session(store, session_id).load()
    await move(session)

    async def around(name: str, send: Send) -> Any:
        if name in ("save", "login", "take_hash"):
            another = await open_session(other, session_id).load()
            another["n"] += 1
            await another.save()
            await asyncio.sleep(0.02)
        return await send()

    around_scripts(store, around)
    with pytest.raises(SessionUnavailable):
        await session.save()
    assert (await open_session(other, session_id).load())["n"] > 1


@pytest.mark.parametrize("move", MOVES)
async def test_a_session_that_ends_meanwhile(
    store_with: Make, sealed: SessionStore, prefix: str, admin: Any, move: Act
) -> None:
    """A renewal is dropped, as without encryption; a login begins without the data."""
    session_id = await create(sealed, a="mine")
    session = await open_session(sealed, session_id).load()
    await move(session)
    session["b"] = 1
    other = store_with()
    before_the_first_move(sealed, open_session(other, session_id).logout)
    if move is _renew:
        with pytest.raises(SessionGone):
            await session.save()
        assert look(admin, prefix).users == {}
    else:
        await session.save()
        assert dict(await open_session(other, new_id(session)).load()) == {"b": 1}


@pytest.mark.parametrize("move", MOVES)
async def test_a_value_that_was_swapped_meanwhile(
    sealed: SessionStore,
    held: Held,
    admin: Any,
    prefix: str,
    events: list[SessionEvent],
    *,
    move: Act,
) -> None:
    """It is not encrypted again under the new key, which would make it right."""
    session_id = await create(sealed, a="mine", b="other")
    session = await open_session(sealed, session_id).load()
    old = session.handle
    await move(session)
    session["c"] = 1

    async def swap() -> None:
        admin.hset(key_of(sealed, session_id), "a", held(session_id)["b"])

    before_the_first_move(sealed, swap)
    if move is _renew:
        with pytest.raises(SessionGone):
            await session.save()
    else:
        await session.save()
        assert dict(await open_session(sealed, new_id(session)).load()) == {"c": 1}
    [corrupt] = [event for event in events if event.name == "corrupt"]
    assert corrupt.handle == old
    assert corrupt.detail == "an encrypted field was not written under this handle and name"
    assert look(admin, prefix).unlisted(prefix) == []


async def test_another_users_login_takes_nothing_along(sealed: SessionStore, held: Held) -> None:
    """Neither values nor keys."""
    session_id = await log_in(sealed, "bob", secret="bob's")
    moved = await log_in(sealed, "ann", session_id, mine=1)
    assert held(moved).keys() == {"mine"}
    assert dict(await open_session(sealed, moved).load()) == {"mine": 1}
    assert not await is_live(sealed, session_id)


async def test_many_fields_move(store_with: Make) -> None:
    """More names and values than one HSET of a script takes."""
    store = store_with(limits=Limits(fields=3000))
    fields = {f"n{number}": number for number in range(3000)}
    session_id = await create(store, **fields)
    session = await open_session(store, session_id).load()
    session.renew()
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == fields


@pytest.mark.parametrize("move", MOVES)
async def test_one_address_of_several_servers(store_with: Make, move: Act) -> None:
    """Take and restore, as in a Cluster, with what another request has written meanwhile."""
    store, other = store_with(sharded=True), store_with()
    session_id = await create(other, a="mine")
    session = await open_session(store, session_id).load()
    await move(session)

    async def act() -> None:
        await _write(await open_session(other, session_id).load())

    steps = before_the_first_move(store, act, is_taken=True)
    await session.save()
    assert steps == ["take_hash", "take_hash"]
    assert dict(await open_session(other, new_id(session)).load()) == {"a": "other", "new": 1}


async def test_what_is_put_back_opens_with_the_old_id(store_with: Make) -> None:
    """The new key's server has refused it: the values are as they were."""
    store = store_with(sharded=True)
    session_id = await create(store, a="mine")
    session = await open_session(store, session_id).load()
    session.renew()

    async def around(name: str, send: Send) -> Any:
        if name == "save":
            raise SessionUnavailable("it is full", is_refusal=True)
        return await send()

    stop = around_scripts(store, around)
    with pytest.raises(SessionUnavailable):
        await session.save()
    stop()
    assert dict(await open_session(store, session_id).load()) == {"a": "mine"}

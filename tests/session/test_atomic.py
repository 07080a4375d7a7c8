"""`transform` and `take`: one field, read and written in one step."""

import asyncio
from typing import Any

import pytest

from asgi_redis_session import Limits, SessionGone, SessionStore, SessionValueError, Tag

from ..support.internals import handle_of, open_session
from ..support.sessions import create

pytestmark = pytest.mark.on_cluster


async def test_50_transforms_lose_nothing(store: SessionStore) -> None:
    """Fifty requests add an item each to one list, while others write beside them."""
    session_id = await create(store, n=0)

    async def add(number: int) -> None:
        session = open_session(store, session_id)
        await session.transform("cart", lambda cart: [*cart, number], default=[])
        session[f"n{number}"] = number
        await session.save()

    await asyncio.gather(*map(add, range(50)))
    session = await open_session(store, session_id).load()
    assert sorted(session["cart"]) == list(range(50))
    assert len(session) == 52


async def test_it_acts_at_once(store: SessionStore) -> None:
    """No response has to start: the next look finds it."""
    session_id = await create(store, n=1, state="s")
    session = open_session(store, session_id)
    assert await session.transform("n", lambda n: n + 1) == 2
    assert await session.take("state") == "s"
    assert session["n"] == 2
    assert "state" not in session
    assert not session.modified
    assert dict(await open_session(store, session_id).load()) == {"n": 2}


async def test_a_default_is_not_shared(store: SessionStore) -> None:
    """A function may change what it gets, however often it is called."""
    session_id = await create(store, n=1)
    default: list[int] = []

    def add(cart: list[int]) -> list[int]:
        cart.append(1)
        return cart

    session = open_session(store, session_id)
    assert await session.transform("cart", add, default=default) == [1]
    assert await session.transform("cart", add, default=default) == [1, 1]
    assert default == []


async def test_what_is_staged_is_transformed_and_taken_where_it_is(store: SessionStore) -> None:
    """In a new session, and over this request's own changes, nothing is sent before the commit."""
    session = await open_session(store).load()
    assert await session.transform("n", lambda n: n + 1, default=0) == 1
    assert await session.take("n") == 1
    assert await session.take("n", "none") == "none"
    session_id = await create(store, cart=["a"])
    session = await open_session(store, session_id).load()
    session["cart"].append("b")
    assert await session.transform("cart", lambda cart: [*cart, "c"]) == ["a", "b", "c"]
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"cart": ["a", "b", "c"]}


async def test_a_list_that_was_only_read_is_compared_in_redis(store: SessionStore) -> None:
    """Reading a list is no change of it."""
    session_id = await create(store, cart=["a"])
    session = await open_session(store, session_id).load()
    assert session["cart"] == ["a"]
    await open_session(store, session_id).transform("cart", lambda cart: [*cart, "b"])
    assert await session.transform("cart", lambda cart: [*cart, "c"]) == ["a", "b", "c"]


async def test_one_of_many_takes_it(store: SessionStore) -> None:
    """Of twenty callers at once, one gets the state."""
    session_id = await create(store, state="s")
    taken = await asyncio.gather(
        *[open_session(store, session_id).take("state") for _ in range(20)]
    )
    assert sorted(taken, key=str) == [None] * 19 + ["s"]


async def test_a_session_that_has_ended_is_gone(store: SessionStore) -> None:
    """Nothing is recreated."""
    acts: list[Any] = [lambda s: s.transform("n", lambda n: n + 1), lambda s: s.take("n")]
    for act in acts:
        session_id = await create(store, n=1)
        session = await open_session(store, session_id).load()
        await store.revoke(handle_of(store, session_id))
        with pytest.raises(SessionGone):
            await act(session)
        assert (await open_session(store, session_id).load()).is_new


async def test_bad_values_and_functions_are_refused(session_redis_url: str, prefix: str) -> None:
    """Before anything is sent."""

    async def wait(_: Any) -> None:
        raise NotImplementedError

    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, limits=Limits(fields=1), index=[Tag("tag")]
    ) as store:
        session = open_session(store, await create(store, n=1))
        with pytest.raises(SessionValueError, match="tuple"):
            await session.transform("n", lambda _: (1,))
        with pytest.raises(TypeError, match="can't be async"):
            await session.transform("n", wait)
        with pytest.raises(SessionValueError, match=r"at most 1 fields|as many fields"):
            await session.transform("m", lambda _: 1)
        with pytest.raises(SessionValueError, match="reserved"):
            await session.take("@user")
        assert await session.transform("n", lambda n: n + 1) == 2

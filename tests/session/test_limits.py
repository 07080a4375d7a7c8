"""Names, sizes and depths that a session takes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from asgi_redis_session import Limits, Session, SessionStore, SessionValueError
from asgi_redis_session.testing import SessionKit

from ..support.internals import new_id, open_session
from ..support.sessions import create
from ..support.values import nested
from .conftest import New

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize(
    "name",
    ["", "@", "@v", "@user", "\ud800", "a\udc00", 1, 1.5, None, True, b"a", ("a",)],
    ids=ascii,
)
async def test_bad_names_are_refused_in_every_way_of_writing(new: New, name: Any) -> None:
    """A name that can't be stored is refused by each verb that writes, and nothing is staged."""
    session, _ = await new(a=1)
    writes: list[Callable[[], object]] = [
        lambda: session.__setitem__(name, 1),
        lambda: session.setdefault(name, 1),
        lambda: session.update({name: 1}),
        lambda: session.update([(name, 1)]),
        lambda: session.__ior__({name: 1}),
    ]
    for write in writes:
        with pytest.raises(SessionValueError, match=r"name|Text"):
            write()
    for verb in (session.increment, session.fetch):
        with pytest.raises(SessionValueError):
            await verb(name)
    assert not session.modified
    assert dict(session) == {"a": 1}
    assert name not in session
    assert session.get(name) is None
    with pytest.raises(KeyError):
        del session[name]


async def test_metadata_is_not_shown_as_fields(new: New) -> None:
    """The library's own fields of the hash can be neither seen nor removed."""
    session, _ = await new(a=1)
    assert list(session) == ["a"]
    for name in ("@v", "@created", "@deadline"):
        assert name not in session
        with pytest.raises(KeyError):
            session.pop(name)


@pytest.fixture
async def limited(
    session_redis_url: str, prefix: str
) -> AsyncIterator[Callable[..., Awaitable[Session]]]:
    """A function that makes a loaded, stored session under these limits."""
    async with AsyncExitStack() as stack:

        async def make(**limits: int) -> Session:
            store = await stack.enter_async_context(
                SessionStore.from_url(session_redis_url, prefix=prefix, limits=Limits(**limits))
            )
            session = await open_session(store).load()
            session["a"] = 1
            await session.save()
            return session

        yield make


Limited = Callable[..., Awaitable[Session]]


async def test_too_many_fields_are_refused_at_once(kit: SessionKit, limited: Limited) -> None:
    """One field too many raises where it is assigned; replacing and removing still work."""
    session = await limited(fields=3)
    session.update(b=2, c=3)
    with kit.count() as commands:
        with pytest.raises(SessionValueError, match=r"at most 3 fields.*Limits\(fields=") as caught:
            session["d"] = 4
        with pytest.raises(SessionValueError):
            await session.increment("d")
    assert commands.lines == []
    assert "session['d']" in str(caught.value)
    session["c"] = 33
    del session["b"]
    session["d"] = 4
    await session.save()
    assert dict(session) == {"a": 1, "c": 33, "d": 4}


async def test_very_many_fields_are_written_at_once(limited: Limited) -> None:
    """More than one HSET of a script can take."""
    session = await limited(fields=5000)
    many = {f"name{number}": number for number in range(4100)}
    session.update(many)
    await session.save()
    await session.reload()
    assert dict(session) == {"a": 1, **many}


async def test_too_large_a_field_is_refused_at_once(kit: SessionKit, limited: Limited) -> None:
    """A value over the limit raises at assignment, exactly from the first byte too many on."""
    session = await limited(field_bytes=100)
    with kit.count() as commands:
        for value in ("x" * 101, "é" * 51, "'" * 100, ["x" * 97], {"k": "x" * 93}, 10**100):
            with pytest.raises(SessionValueError, match=r"more than.*100.*Limits\(field_bytes="):
                session["big"] = value
        assert "big" not in session
    assert commands.lines == []
    for value in ("x" * 100, "é" * 50, "'" * 99, ["x" * 96], {"k": "x" * 92}, 10**99):
        session["big"] = value
        await session.save()


async def test_a_value_that_grows_too_large_is_refused_at_the_commit(
    kit: SessionKit, limited: Limited, admin: redis.Redis
) -> None:
    """A list that grew past the limit in place fails the save, and nothing of it is sent."""
    session = await limited(field_bytes=100)
    session["list"] = []
    await session.save()
    (key,) = kit.keys()
    before = admin.hgetall(key)
    session["list"].append("x" * 200)
    session["a"] = 2
    with kit.count() as commands, pytest.raises(SessionValueError, match=r"session\['list'\]"):
        await session.save()
    assert commands.lines == []
    assert admin.hgetall(key) == before


async def test_too_large_a_session_is_refused_before_anything_is_sent(
    kit: SessionKit, limited: Limited, admin: redis.Redis
) -> None:
    """The sum of all values is limited, those that are stored already included."""
    session = await limited(session_bytes=300, field_bytes=200)
    session.update(b="x" * 150)
    await session.save()
    (key,) = kit.keys()
    before = admin.hgetall(key)
    session["c"] = "y" * 150
    with (
        kit.count() as commands,
        pytest.raises(SessionValueError, match=r"301 bytes.*300.*Limits\(session_bytes="),
    ):
        await session.save()
    assert commands.lines == []
    assert admin.hgetall(key) == before
    session["c"] = "y" * 149
    await session.save()
    session["c"], session["b"] = "z" * 199, "w" * 100
    await session.save()
    del session["b"]
    session["d"] = "x" * 100
    await session.save()


async def test_too_deep_a_value_is_refused(kit: SessionKit, limited: Limited) -> None:
    """Nesting over the limit raises at assignment, or at the commit if it was built in place."""
    session = await limited(depth=3)
    session["v"] = nested(3)
    await session.save()
    with kit.count() as commands:
        with pytest.raises(SessionValueError, match=r"Limits\(depth="):
            session["v"] = nested(4)
        session["v"][0][0].append([])
        with pytest.raises(SessionValueError, match=r"Limits\(depth="):
            await session.save()
    assert commands.lines == []


@pytest.mark.parametrize("limit", ["fields", "field_bytes", "session_bytes", "depth"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "1"])
def test_nonsensical_limits_are_refused(limit: str, value: Any) -> None:
    """A limit is an integer of at least 1."""
    with pytest.raises((ValueError, TypeError), match=limit):
        Limits(**{limit: value})


async def test_the_default_limits_are_exact(new: New) -> None:
    """256 fields and 64 KiB in one of them are fine by default; one more of either is not."""
    session, _ = await new(**{f"f{n}": n for n in range(256)})
    with pytest.raises(SessionValueError):
        session["f256"] = 256
    session["f0"] = "x" * 65_536
    await session.save()
    with pytest.raises(SessionValueError):
        session["f0"] = "x" * 65_537


async def test_limits_that_were_lowered_stop_no_load(session_redis_url: str, prefix: str) -> None:
    """What was stored under larger limits is read, renewed, and changed where it is small."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, timeout=20) as before:
        fields = {"deep": nested(20), "long": "x" * 5_000, **{f"n{n}": n for n in range(50)}}
        session_id = await create(before, **fields)
    small = Limits(fields=3, field_bytes=100, session_bytes=200, depth=2)
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, timeout=20, limits=small
    ) as store:
        session = await open_session(store, session_id).load()
        assert dict(session) == fields
        assert await open_session(store, session_id).fetch("deep") == {"deep": fields["deep"]}
        session["n1"] = 2
        session.renew()
        await session.save()
        session = await open_session(store, new_id(session)).load()
        assert dict(session) == {**fields, "n1": 2}

"""What a session is not: copied, pickled, hashed, or brought back."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from asgi_redis_session import SessionEvent, SessionGone, SessionStore, SessionTooLate

from ..support.internals import cookie_change, open_session, start_response
from ..support.keyspace import session_keys
from .conftest import New

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize("is_loaded", [True, False])
async def test_a_session_can_not_be_copied_or_pickled(
    store: SessionStore, new: New, *, is_loaded: bool
) -> None:
    """It belongs to its request: copying and pickling refuse, naming `dict(session)`."""
    loaded, session_id = await new(a=1)
    session = loaded if is_loaded else open_session(store, session_id)
    attempts: list[Callable[[Any], object]] = [copy.copy, copy.deepcopy, pickle.dumps]
    attempts += [lambda s: copy.deepcopy([s]), lambda s: pickle.dumps({"session": s})]
    attempts += [lambda s: pickle.dumps(s, 0), lambda s: pickle.dumps(s, 1)]
    for attempt in attempts:
        with pytest.raises(TypeError, match=r"Use dict\(session\)"):
            attempt(session)
    assert copy.deepcopy(dict(loaded)) == {"a": 1}


async def test_a_session_has_no_hash_and_no_free_attributes(new: New) -> None:
    """It is mutable, so it is no key; and a misspelt attribute is an error, not a silent loss."""
    session, _ = await new(a=1)
    with pytest.raises(TypeError):
        hash(session)
    with pytest.raises(AttributeError):
        session.cart = []  # type: ignore[attr-defined]


async def test_repr_shows_state_and_names_only(store: SessionStore, new: New) -> None:
    """`repr` says what state a session is in and which fields it has, never a value."""
    session, session_id = await new(cart=["hush"], user="hush")
    assert repr(session) == "<Session unchanged, fields: cart, user>"
    session["cart"].append("hush")
    assert repr(session) == "<Session modified, fields: cart, user>"
    session["cart"].append({"hush"})
    assert repr(session) == "<Session modified, fields: cart, user>"
    assert repr(open_session(store, session_id)) == "<Session not loaded>"
    assert repr(await open_session(store).load()) == "<Session new, fields: none>"


async def test_key_errors_name_the_field(new: New) -> None:
    """A missing field raises the `KeyError` that a dict would raise."""
    session, _ = await new(a=1)
    uses: list[Callable[[], object]] = [
        lambda: session["missing"],
        lambda: session.__delitem__("missing"),
        lambda: session.pop("missing"),
    ]
    for use in uses:
        with pytest.raises(KeyError) as caught:
            use()
        assert caught.value.args == ("missing",)
    session.clear()
    with pytest.raises(KeyError):
        session.popitem()


async def test_unhashable_names_are_type_errors(new: New) -> None:
    """As with a dict, looking for an unhashable name is a `TypeError`."""
    session, _ = await new(a=1)
    lookups: list[Callable[[Any], object]] = [
        lambda s: s[[]],
        lambda s: [] in s,
        lambda s: s.get([]),
        lambda s: s.pop([], None),
    ]
    for use in lookups:
        with pytest.raises(TypeError):
            use(session)


async def test_changing_it_while_iterating_is_noticed(new: New) -> None:
    """As with a dict, a session that changes its size under an iteration raises."""
    session, _ = await new(a=1, b=2)

    def grow() -> Iterator[None]:
        for name in session:
            session[name + "x"] = 1
            yield

    with pytest.raises(RuntimeError, match="changed size"):
        list(grow())


async def test_after_the_response_a_new_session_is_too_late(
    store: SessionStore, new: New, admin: redis.Redis, prefix: str
) -> None:
    """A new session refuses writes once sealed; one that exists can still be changed."""
    fresh = await open_session(store).load()
    start_response(fresh)
    writes: list[Callable[[Any], object]] = [
        lambda s: s.__setitem__("a", 1),
        lambda s: s.setdefault("a", 1),
        lambda s: s.update(a=1),
        lambda s: s.__ior__({"a": 1}),
    ]
    for write in writes:
        with pytest.raises(SessionTooLate):
            write(fresh)
    assert dict(fresh) == {}
    assert session_keys(admin, prefix) == []

    session, session_id = await new(a=1)
    start_response(session)
    session["a"] = 2
    await session.save()
    with pytest.raises(SessionTooLate):
        session.renew()
    assert (await open_session(store, session_id).load())["a"] == 2


async def test_a_session_that_was_ended_elsewhere_is_not_recreated(
    store: SessionStore, new: New, admin: redis.Redis, prefix: str, events: list[SessionEvent]
) -> None:
    """A save that comes too late raises `SessionGone`; the session is then empty and new."""
    session, session_id = await new(a=1)
    await open_session(store, session_id).logout()
    session["a"] = 2
    with pytest.raises(SessionGone):
        await session.save()
    assert dict(session) == {}
    assert session.is_new
    assert cookie_change(session) is None
    assert session_keys(admin, prefix) == []
    assert [event.name for event in events] == ["created", "ended", "gone"]

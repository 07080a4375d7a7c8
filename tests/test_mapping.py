"""A loaded session is as good as a dict, and Redis holds exactly what it shows."""

import asyncio
import copy
import pickle
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asgi_redis_session import (
    Limits,
    Session,
    SessionEvent,
    SessionGone,
    SessionNotLoaded,
    SessionStore,
    SessionTooLate,
    SessionValueError,
)
from asgi_redis_session.engine.codec import decode
from asgi_redis_session.testing import SessionKit

from .page import Page
from .support.internals import cookie_change, handle_of, load_scripts, open_session, start_response
from .values import nested, same, small_values

few_names = st.sampled_from(["a", "b", "cart", "_state_x", "'", "true", "ü", "\x00"])
few_dicts = st.dictionaries(few_names, small_values, max_size=4)


def outcome(act: Callable[[Any], Any], target: Any) -> tuple[Any, ...]:
    """What an operation returns or raises."""
    try:
        return "returned", act(target)
    except (KeyError, TypeError) as error:
        return "raised", type(error)


def is_same_outcome(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return same(list(left), list(right))


# --- Against a plain dict, on a real Redis ---


class AsGoodAsADict(RuleBasedStateMachine):
    """Each step does the same to a session and to a dict; each save compares with Redis."""

    url: str
    admin: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.prefix = f"test-{secrets.token_hex(6)}"
        self.store = SessionStore.from_url(self.url, prefix=self.prefix)
        self.session = open_session(self.store)
        self.model: dict[str, Any] = {}
        self.is_alive = False  # Redis holds a session of ours

    def run(self, awaitable: Awaitable[Any]) -> Any:
        async def forward() -> Any:
            return await awaitable

        return self.runner.run(forward())

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()
        for key in self.keys():
            self.admin.delete(key)

    def keys(self) -> list[bytes]:
        return list(self.admin.scan_iter(f"{self.prefix}:*", count=1_000))

    def both(self, act: Callable[[Any], Any]) -> None:
        expected, found = outcome(act, self.model), outcome(act, self.session)
        assert is_same_outcome(found, expected)

    @initialize()
    def load(self) -> None:
        self.run(self.session.load())

    @rule(name=few_names)
    def get_item(self, name: str) -> None:
        self.both(lambda d: d[name])

    @rule(name=few_names, value=small_values)
    def set_item(self, name: str, value: Any) -> None:
        self.both(lambda d: d.__setitem__(name, copy.deepcopy(value)))

    @rule(name=few_names)
    def del_item(self, name: str) -> None:
        self.both(lambda d: d.__delitem__(name))

    @rule(name=few_names, default=small_values)
    def get(self, name: str, default: Any) -> None:
        self.both(lambda d: d.get(name))
        self.both(lambda d: d.get(name, default))

    @rule(name=st.one_of(few_names, st.none(), st.integers()))
    def contains(self, name: Any) -> None:
        self.both(lambda d: name in d)

    @rule(name=few_names)
    def pop(self, name: str) -> None:
        self.both(lambda d: d.pop(name))

    @rule(name=few_names, default=small_values)
    def pop_with_default(self, name: str, default: Any) -> None:
        self.both(lambda d: d.pop(name, default))

    @rule()
    def popitem(self) -> None:
        self.both(lambda d: list(d.popitem()))

    @rule(name=few_names, default=small_values)
    def setdefault(self, name: str, default: Any) -> None:
        self.both(lambda d: d.setdefault(name, copy.deepcopy(default)))

    @rule(name=few_names, addition=small_values)
    def setdefault_and_append(self, name: str, addition: Any) -> None:
        def act(target: Any) -> None:
            value = target.setdefault(name, [])
            if isinstance(value, list):
                value.append(addition)

        self.both(act)

    @rule(fields=few_dicts, how=st.sampled_from(["mapping", "pairs", "keywords", "both", "ior"]))
    def update(self, fields: dict[str, Any], how: str) -> None:
        def act(target: Any) -> None:
            fresh = copy.deepcopy(fields)
            if how == "mapping":
                target.update(fresh)
            elif how == "pairs":
                target.update(iter(fresh.items()))
            elif how == "keywords":
                target.update(**fresh)
            elif how == "both":
                target.update({"a": 1}, **fresh)
            else:
                before = target
                target |= fresh
                assert target is before

        self.both(act)

    @rule(fields=few_dicts)
    def union(self, fields: dict[str, Any]) -> None:
        self.both(lambda d: d | fields)
        self.both(lambda d: fields | d)
        self.both(lambda d: {**d, **fields})

    @rule()
    def clear(self) -> None:
        self.both(lambda d: d.clear())

    @rule()
    def copy(self) -> None:
        self.both(lambda d: d.copy())
        assert type(self.session.copy()) is dict

    @rule(
        name=few_names, where=st.sampled_from(["append", "insert", "replace", "remove", "reverse"])
    )
    def change_in_place(self, name: str, where: str) -> None:
        def act(target: Any) -> None:
            value = target.get(name)
            if isinstance(value, list):
                change_list(value, where)
            elif isinstance(value, dict):
                change_dict(value, where)

        self.both(act)

    @rule(where=st.sampled_from(["append", "replace", "remove"]))
    def change_all_in_place(self, where: str) -> None:
        def act(target: Any) -> None:
            for value in target.values():
                if isinstance(value, list):
                    change_list(value, where)
                    for inner in value:
                        if isinstance(inner, dict):
                            change_dict(inner, where)

        self.both(act)

    @rule(fields=few_dicts)
    def equals(self, fields: dict[str, Any]) -> None:
        self.both(lambda d: d == fields)
        self.both(lambda d: d != fields)
        self.both(lambda d: fields == d)
        assert self.session == self.model
        assert self.model == self.session
        assert self.session != {**self.model, "no such": 1}
        self.both(lambda d: d == list(d))

    @rule()
    def renew(self) -> None:
        self.session.renew()

    @invariant()
    def shows_the_same(self) -> None:
        if not self.session.loaded:
            return
        assert len(self.session) == len(self.model)
        assert bool(self.session) is bool(self.model)
        assert list(self.session) == list(self.model)
        assert list(reversed(self.session)) == list(reversed(self.model))
        assert list(self.session.keys()) == list(self.model.keys())
        assert same(list(map(list, self.session.items())), list(map(list, self.model.items())))
        assert same(dict(self.session), self.model)

    @rule()
    def save(self) -> None:
        self.run(self.session.save())
        self.is_alive = bool(self.model)
        assert self.session.loaded
        assert not self.session.modified
        assert self.session.is_new is not self.is_alive
        keys = self.keys()
        assert len(keys) == int(self.is_alive)
        for key in keys:
            stored: dict[str, Any] = {}
            reply: dict[Any, Any] = self.admin.hgetall(key)
            for name, raw in reply.items():
                if not name.startswith(b"@"):
                    stored[name.decode()] = decode(raw)
            assert same_fields(stored, self.model)
            assert self.session.handle is not None
            assert key.decode().endswith(f":{self.session.handle}")

    @precondition(lambda self: self.is_alive)
    @rule(slide=st.booleans())
    def save_and_load_anew(self, slide: bool) -> None:
        """The next request: a new object that knows the cookie only."""
        self.session.renew()
        self.run(self.session.save())
        change = cookie_change(self.session)
        self.is_alive = bool(self.model)
        # Emptied: the browser is told to forget the cookie, if it ever had one.
        session_id = None if change is None else change.session_id
        assert (session_id is not None) is self.is_alive
        self.session = open_session(self.store, session_id, slide=slide)
        self.run(self.session.load())
        self.adopt_order()

    @rule()
    def reload(self) -> None:
        """What was not saved is forgotten."""
        self.save()
        self.both(lambda d: d.__setitem__("a", "not saved"))
        self.run(self.session.reload())
        del self.model["a"]
        stored = dict(self.session)
        if "a" in stored:
            self.model["a"] = stored["a"]
        self.adopt_order()

    def adopt_order(self) -> None:
        """Redis keeps no order of fields; from here on, both go on with the one that it gave."""
        assert same_fields(dict(self.session), self.model)
        self.model = {name: self.model[name] for name in self.session}


def same_fields(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """The same names and values; in whatever order."""
    return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)


def change_list(value: list[Any], how: str) -> None:
    if how == "append":
        value.append({"x": [1]})
    elif how == "insert":
        value.insert(0, True)
    elif how == "replace" and value:
        value[-1] = 1.0 if value[-1] == 1 else 1
    elif how == "remove" and value:
        value.pop()
    elif how == "reverse":
        value.reverse()


def change_dict(value: dict[str, Any], how: str) -> None:
    if how in ("append", "insert"):
        value["x"] = [1]
    elif how == "replace" and value:
        value[next(iter(value))] = False
    elif how == "remove" and value:
        value.popitem()


def test_a_session_is_as_good_as_a_dict(session_redis_url: str, admin: redis.Redis) -> None:
    """Random operations, saves and reloads: the session, a dict and Redis always agree."""
    machine = type("Machine", (AsGoodAsADict,), {"url": session_redis_url, "admin": admin})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=250,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


# --- Plain cases ---


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


@pytest.fixture
def kit(sessions: SessionKit, admin: redis.Redis) -> SessionKit:
    """The server knows every script, so that a first EVAL does not count."""
    load_scripts(admin)
    return sessions


New = Callable[..., Awaitable[tuple[Session, str]]]


@pytest.fixture
def new(store: SessionStore) -> New:
    """A function that makes a session with these fields; returns another object of it, loaded."""

    async def make(**fields: Any) -> tuple[Session, str]:
        session = await open_session(store).load()
        session.update(fields)
        await session.save()
        change = cookie_change(session)
        assert change is not None
        assert change.session_id is not None
        return await open_session(store, change.session_id).load(), change.session_id

    return make


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page


async def test_only_what_was_changed_is_sent(kit: SessionKit, new: New) -> None:
    """A commit carries the changed fields and no others, also after the others have been read."""
    session, _ = await new(kept="K" * 9, list=["L" * 9], changed="old", nested={"deep": ["D"]})
    with kit.count() as commands:
        assert session["kept"] == "K" * 9
        assert session["list"] == ["L" * 9]
        session["changed"] = "new"
        session["nested"]["deep"].append("more")
        await session.save()
    (line,) = commands.lines
    sent = line.split()
    assert "changed" in sent
    assert "new" in sent
    assert "nested" in sent
    for name in ("kept", "list"):
        assert name not in sent
    assert "KKK" not in line
    assert "LLL" not in line


async def test_an_untouched_list_is_not_sent(kit: SessionKit, new: New) -> None:
    """A nested value that nobody asked for is neither compared nor written."""
    session, _ = await new(cart=["sku"] * 50, n=1)
    with kit.count() as commands:
        session["n"] += 1
        await session.save()
    (line,) = commands.lines
    assert "cart" not in line
    assert "sku" not in line


async def test_a_removed_field_is_sent_by_name_only(kit: SessionKit, new: New) -> None:
    """A deletion carries the name, not the value that it had."""
    session, _ = await new(gone="SECRETVALUE", n=1)
    with kit.count() as commands:
        del session["gone"]
        await session.save()
    (line,) = commands.lines
    assert "gone" in line.split()
    assert "SECRETVALUE" not in line


def assign_again(session: Session) -> None:
    for name in list(session):
        session[name] = session[name]


def assign_copies(session: Session) -> None:
    session.update(copy.deepcopy(dict(session)))


def change_and_change_back(session: Session) -> None:
    session["text"] = "other"
    session["text"] = "text"
    session["list"].append(4)
    session["list"].pop()
    session["dict"]["b"] = 2
    del session["dict"]["b"]


def remove_and_put_back(session: Session) -> None:
    session["flag"] = session.pop("flag")
    del session["number"]
    session["number"] = 7


def add_and_remove(session: Session) -> None:
    session["new"] = [1]
    session["new"].append(2)
    del session["new"]
    assert session.pop("never", None) is None


def read_everything(session: Session) -> None:
    dict(session)
    list(session.values())
    copy.deepcopy(session["list"])
    session.setdefault("text", "other")


def use_dunders(session: Session) -> None:
    assert "text" in session
    assert session | {"x": 1} != session
    assert session == dict(session)
    session |= {"text": "text"}
    session.update()


@pytest.mark.parametrize(
    "act",
    [
        *(assign_again, assign_copies, change_and_change_back, remove_and_put_back),
        *(add_and_remove, read_everything, use_dunders),
    ],
)
async def test_what_ends_as_it_was_writes_nothing(
    kit: SessionKit, new: New, page: Page, act: Callable[[Session], None]
) -> None:
    """Assigning equal values, or changing and changing back, costs no write and no Set-Cookie."""
    session, session_id = await new(
        text="text", flag=True, number=7, list=[1, 2.5, None], dict={"a": {}}
    )
    with kit.count() as commands:
        act(session)
        assert not session.modified
        await session.save()
    assert commands.lines == []
    page.client.cookies.set("session", session_id)
    with kit.count() as commands:
        response = await page(act)
    assert commands.names == ["EVALSHA"]
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (True, 1),
        (1, 1.0),
        (1.0, 1),
        (0, False),
        (0.0, -0.0),
        (-0.0, 0),
        ("1", 1),
        (None, "null"),
        (None, False),
        (True, "true"),
        ("", None),
        ([], {}),
        ([1], [True]),
        ({"a": 0}, {"a": 0.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
async def test_values_of_other_types_differ_even_if_equal(
    store: SessionStore, new: New, before: Any, after: Any
) -> None:
    """`1`, `True` and `1.0` are equal in Python, but replacing one by another is a change."""
    session, session_id = await new(v=before)
    session["v"] = after
    assert session.modified
    await session.save()
    assert same((await open_session(store, session_id).load())["v"], after)


async def test_a_field_that_is_held_is_compared_not_trusted(store: SessionStore, new: New) -> None:
    """An alias of a nested value that the app kept is noticed at every later save."""
    session, session_id = await new(cart=[1])
    held = session["cart"]
    await session.save()
    held.append(2)
    assert session.modified
    await session.save()
    held.append(3)
    await session.save()
    assert (await open_session(store, session_id).load())["cart"] == [1, 2, 3]


async def test_a_list_that_was_assigned_stays_the_apps(store: SessionStore, new: New) -> None:
    """As in a dict, the session holds the very object that was assigned, and sees its changes."""
    session, session_id = await new(n=1)
    mine: list[Any] = []
    session["a"] = mine
    session["b"] = mine
    assert session["a"] is mine
    mine.append(1)
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"n": 1, "a": [1], "b": [1]}


async def test_two_requests_share_no_values(store: SessionStore, new: New) -> None:
    """Two objects of one session hold values of their own."""
    first, session_id = await new(cart=[1])
    second = await open_session(store, session_id).load()
    first["cart"].append(2)
    assert second["cart"] == [1]


async def test_what_was_popped_no_longer_belongs_to_the_session(
    store: SessionStore, new: New
) -> None:
    """A list that was popped or replaced can change without a trace in the session."""
    session, session_id = await new(cart=[1], other=[2], n=1)
    popped, replaced = session.pop("cart"), session["other"]
    session["other"] = "text"
    popped.append({1})
    replaced.append({2})
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"other": "text", "n": 1}


# --- What happens while a save is on its way ---


async def test_a_field_written_during_a_save_is_kept(store: SessionStore, new: New) -> None:
    """A task that writes while another saves loses nothing: it is saved the next time."""
    session, session_id = await new(n=1)
    session["a"] = 1
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session["a"] = 2
    session["b"] = 3
    await saving
    assert session.modified
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"n": 1, "a": 2, "b": 3}


async def test_a_field_put_back_during_a_save_is_kept(store: SessionStore, new: New) -> None:
    """A value that returns to the stored one while the other is being saved is saved next."""
    session, session_id = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session["a"] = 1
    await saving
    assert session.modified
    await session.save()
    assert dict(await open_session(store, session_id).load()) == dict(session) == {"a": 1}


async def test_a_field_removed_while_the_session_is_created_stays_removed(
    store: SessionStore,
) -> None:
    """A deletion during the first save is not forgotten."""
    session = await open_session(store).load()
    session.update(a=1, b=2)
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    del session["a"]
    await saving
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert dict(await open_session(store, change.session_id).load()) == dict(session) == {"b": 2}


async def test_a_renewal_asked_for_during_a_save_is_not_forgotten(
    store: SessionStore, new: New
) -> None:
    """`renew()` in one task, while another saves, still gives a new id at the next save."""
    session, session_id = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session.renew()
    await saving
    await session.save()
    change = cookie_change(session)
    assert change is not None
    assert change.session_id not in (None, session_id)


async def test_a_shorter_lifetime_asked_for_during_a_save_is_not_forgotten(new: New) -> None:
    """`set_lifetime()` in one task, while another saves, takes effect at the next save."""
    session, _ = await new(a=1)
    session["a"] = 2
    saving = asyncio.ensure_future(session.save())
    await asyncio.sleep(0)
    session.set_lifetime(idle=60, absolute=120)
    await saving
    await session.save()
    assert session.expires_at is not None
    assert session.created_at is not None
    assert (session.expires_at - session.created_at).total_seconds() <= 121


# --- Emptied sessions ---


def delete_all(session: Session) -> None:
    for name in list(session):
        del session[name]


EMPTY: dict[str, Callable[[Session], object]] = {
    "clear": lambda s: s.clear(),
    "del": delete_all,
    "pop": lambda s: [s.pop(name) for name in list(s)],
    "popitem": lambda s: [s.popitem() for _ in range(len(s))],
}


@pytest.mark.parametrize("how", EMPTY)
async def test_an_emptied_anonymous_session_ends(
    store: SessionStore, new: New, admin: redis.Redis, prefix: str, how: str
) -> None:
    """However it was emptied, nothing remains in Redis, and the browser forgets the cookie."""
    session, _ = await new(a=1, b=[2])
    EMPTY[how](session)
    assert session.modified
    await session.save()
    assert list(admin.scan_iter(f"{prefix}:*")) == []
    change = cookie_change(session)
    assert change is not None
    assert change.session_id is None
    assert session.is_new


@pytest.mark.parametrize("how", EMPTY)
async def test_a_session_that_is_filled_again_lives_on(
    store: SessionStore, new: New, how: str
) -> None:
    """What is written after emptying is kept, under the same id."""
    session, session_id = await new(a=1, b=[2])
    EMPTY[how](session)
    session["c"] = 3
    await session.save()
    assert cookie_change(session) is None
    assert dict(await open_session(store, session_id).load()) == {"c": 3}


@pytest.mark.parametrize("how", EMPTY)
async def test_only_clear_ends_the_session_of_a_user(
    store: SessionStore, new: New, admin: redis.Redis, how: str
) -> None:
    """`clear()` logs out, as in apps for Starlette; removing the last field by hand does not."""
    _, session_id = await new(a=1, b=[2])
    handle = handle_of(store, session_id)
    admin.hset(f"{store.prefix}:{handle}", "@user", "ada")
    session = await open_session(store, session_id).load()
    EMPTY[how](session)
    await session.save()
    info = await store.get(handle)
    if how == "clear":
        assert info is None
    else:
        assert info is not None
        assert info.user_id == "ada"
        assert info.fields == {}


async def test_a_clear_that_was_undone_is_no_change(
    store: SessionStore, new: New, admin: redis.Redis
) -> None:
    """Clearing and putting everything back leaves nothing to write, nor a half-meant logout."""
    _, session_id = await new(a=1)
    handle = handle_of(store, session_id)
    admin.hset(f"{store.prefix}:{handle}", "@user", "ada")
    session = await open_session(store, session_id).load()
    session.clear()
    session["a"] = 1
    await session.save()
    assert not session.modified
    del session["a"]
    await session.save()
    assert await store.get(handle) is not None


async def test_clearing_a_new_session_creates_nothing(
    store: SessionStore, admin: redis.Redis, prefix: str, events: list[SessionEvent]
) -> None:
    """A session that was filled and emptied in one request never reaches Redis."""
    session = await open_session(store).load()
    session["a"] = 1
    session.clear()
    session["b"] = []
    session.pop("b")
    await session.save()
    assert cookie_change(session) is None
    assert list(admin.scan_iter(f"{prefix}:*")) == []
    assert events == []


# --- Before it is loaded ---


SYNC_USES: dict[str, Callable[[Any], object]] = {
    "[]": lambda s: s["a"],
    "[] =": lambda s: s.__setitem__("a", 1),
    "del []": lambda s: s.__delitem__("a"),
    "in": lambda s: "a" in s,
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "list": list,
    "dict": dict,
    "**": lambda s: {**s},
    "get": lambda s: s.get("a"),
    "get with a default": lambda s: s.get("a", 1),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "pop": lambda s: s.pop("a"),
    "pop with a default": lambda s: s.pop("a", None),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("a", 1),
    "update": lambda s: s.update({"a": 1}),
    "update by keyword": lambda s: s.update(a=1),
    "|": lambda s: s | {"a": 1},
    "| on the right": lambda s: {"a": 1} | s,
    "|=": lambda s: s.__ior__({"a": 1}),
    "clear": lambda s: s.clear(),
    "copy": lambda s: s.copy(),
    "==": lambda s: s == {},
    "!=": lambda s: s != {},
    "is_new": lambda s: s.is_new,
    "handle": lambda s: s.handle,
    "user_id": lambda s: s.user_id,
    "created_at": lambda s: s.created_at,
    "authenticated_at": lambda s: s.authenticated_at,
    "expires_at": lambda s: s.expires_at,
    "renew": lambda s: s.renew(),
    "set_lifetime": lambda s: s.set_lifetime(idle=60),
}


@pytest.mark.parametrize("use", SYNC_USES)
@pytest.mark.parametrize("has_cookie", [True, False])
async def test_an_unloaded_session_says_how_to_load_it(
    kit: SessionKit, store: SessionStore, new: New, use: str, *, has_cookie: bool
) -> None:
    """Each use before loading raises `SessionNotLoaded`, naming the cure, and sends nothing."""
    _, session_id = await new(a=1)
    session = open_session(store, session_id if has_cookie else None)
    with kit.count() as commands, pytest.raises(SessionNotLoaded) as caught:
        SYNC_USES[use](session)
    assert commands.lines == []
    assert "await session.load()" in str(caught.value)
    assert "autoload=True" in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert not session.loaded
    assert not session.modified
    assert repr(session) == "<Session not loaded>"
    await session.save()
    assert dict(await session.load()) == ({"a": 1} if has_cookie else {})


async def test_fetch_leaves_the_session_unloaded(store: SessionStore, new: New) -> None:
    """`fetch` reads single fields; the mapping still needs a load."""
    _, session_id = await new(a=1, b=[2])
    session = open_session(store, session_id)
    assert await session.fetch("b", "missing") == {"b": [2]}
    with pytest.raises(SessionNotLoaded):
        session["a"]


# --- Names and limits ---


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


# --- What a session is not ---


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
    assert list(admin.scan_iter(f"{prefix}:*")) == []

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
    assert list(admin.scan_iter(f"{prefix}:*")) == []
    assert [event.name for event in events] == ["created", "ended", "gone"]


async def test_containers_of_every_kind_are_watched(store: SessionStore, new: New) -> None:
    """Nested changes are noticed through each way of getting at the value."""
    ways: list[Callable[[Session], list[Any]]] = [
        lambda s: s["v"],
        lambda s: s.get("v") or [],
        lambda s: s.setdefault("v", []),
        lambda s: next(iter(s.values())),
        lambda s: dict(s.items())["v"],
        lambda s: dict(s)["v"],
        lambda s: s.copy()["v"],
        lambda s: (s | {})["v"],
        lambda s: {**s}["v"],
    ]
    for way in ways:
        session, session_id = await new(v=[1])
        way(session).append(2)
        await session.save()
        assert dict(await open_session(store, session_id).load()) == {"v": [1, 2]}

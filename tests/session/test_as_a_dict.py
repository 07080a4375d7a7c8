"""A session against a plain dict: any order of operations, with every save compared with Redis."""

import asyncio
import copy
import secrets
from collections.abc import Awaitable, Callable
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

from asgi_redis_session import SessionStore
from asgi_redis_session.engine.codec import decode

from ..support.examples import examples
from ..support.internals import cookie_change, open_session
from ..support.keyspace import session_keys
from ..support.values import same, small_values

pytestmark = pytest.mark.on_cluster

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
        return session_keys(self.admin, self.prefix)

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
    @rule(extends=st.booleans())
    def save_and_load_anew(self, extends: bool) -> None:
        """The next request: a new object that knows the cookie only."""
        self.session.renew()
        self.run(self.session.save())
        change = cookie_change(self.session)
        self.is_alive = bool(self.model)
        # Emptied: the browser is told to forget the cookie, if it ever had one.
        session_id = None if change is None else change.session_id
        assert (session_id is not None) is self.is_alive
        self.session = open_session(self.store, session_id, extends=extends)
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
            max_examples=examples(250),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )

"""Every option of every public callable with every nonsense: refused, and named."""

import inspect
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from starlette.websockets import WebSocket

from asgi_redis_session import (
    CookiePolicy,
    Durability,
    Lifetime,
    Limits,
    Num,
    Session,
    SessionMiddleware,
    SessionStore,
    Tag,
    Text,
)
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.fastapi import require_fresh
from asgi_redis_session.starlette import closing_when_revoked

from ..support.internals import open_session
from .conftest import Cases
from .nonsense import NONSENSE


class World(NamedTuple):
    """What a call may need."""

    store: SessionStore
    session: Session


class Option(NamedTuple):
    """One option: a call that is given a value, and what is no nonsense for it."""

    #: What the sentence must name; a pattern.
    named: str
    call: Callable[[World, Any], Any]
    #: The names of values that it takes, beside those for which `takes` is true.
    valid: str = ""
    takes: Callable[[Any], bool] = lambda value: False


def _is_duration(value: Any) -> bool:
    if isinstance(value, timedelta):
        return timedelta(0) < value < timedelta(days=36_525)
    return type(value) in (int, float) and 0 < value < 1e9


def _is_integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_name(value: Any) -> bool:
    return type(value) is str and value != "" and "\ud800" not in value


def _is_user(value: Any) -> bool:
    return (
        isinstance(value, UUID)
        or (type(value) is int and value.bit_length() <= 4096)
        or _is_name(value)
    )


def _is_new_user(value: Any) -> bool:
    return _is_user(value) and len(str(value)) <= 16_384


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_callable(value: Any) -> bool:
    return callable(value)


def _new(**options: Any) -> SessionStore:
    return SessionStore.from_url("redis://localhost", **options)


def _served(world: World, **options: Any) -> SessionMiddleware:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    return SessionMiddleware(app, **{"store": world.store, **options})


def _dropped_in(option: str) -> Callable[[World, Any], Any]:
    """The drop-in with this option."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    def make(world: World, value: Any) -> Any:
        return DropIn(app, **{"secret_key": "k" * 32, "store": world.store, option: value})

    return make


async def _close(world: World, **options: Any) -> None:
    scope = {"type": "websocket", "session": world.session}

    async def nothing(*_: Any) -> Any:
        """No message."""

    async with closing_when_revoked(WebSocket(scope, nothing, nothing), **options):
        pass


def _policy(option: str) -> Callable[[World, Any], Any]:
    return lambda _, value: CookiePolicy(**{"name": "s", option: value})


def _limits(option: str) -> Callable[[World, Any], Any]:
    return lambda _, value: Limits(**{option: value})


#: What any list of values may be.
LISTS = (
    "empty_tuple tuple empty_list list list_of_words list_of_None empty_set set set_of_secrets "
    "range generator"
)

OPTIONS: dict[str, Option] = {
    "Lifetime(idle)": Option("idle", lambda _, v: Lifetime(idle=v), takes=_is_duration),
    "Lifetime(absolute)": Option(
        "absolute",
        lambda _, v: Lifetime(idle=0.1, absolute=v),
        "None",
        takes=_is_duration,
    ),
    "Lifetime(refresh_after)": Option(
        "refresh_after",
        lambda _, v: Lifetime(refresh_after=v),
        "0 0.0 no_time",
        takes=_is_duration,
    ),
    **{
        f"Limits({name})": Option(
            name,
            _limits(name),
            takes=_is_integer(1, 64 if name == "depth" else 2**29),
        )
        for name in ("fields", "field_bytes", "session_bytes", "depth")
    },
    "Durability(replicas)": Option(
        "replicas", lambda _, v: Durability(replicas=v, fsync=True), takes=_is_integer(0, 1000)
    ),
    "Durability(fsync)": Option(
        "fsync", lambda _, v: Durability(replicas=1, fsync=v), takes=_is_bool
    ),
    "Durability(timeout)": Option(
        "timeout", lambda _, v: Durability(replicas=1, timeout=v), takes=_is_duration
    ),
    "CookiePolicy(name)": Option(
        "name",
        _policy("name"),
        "word yes none 16_times_a star",
    ),
    "CookiePolicy(secure)": Option("secure", _policy("secure"), takes=_is_bool),
    "CookiePolicy(http_only)": Option("http_only", _policy("http_only"), takes=_is_bool),
    "CookiePolicy(same_site)": Option("same_site", _policy("same_site"), "none"),
    "CookiePolicy(path)": Option("path", _policy("path")),
    "CookiePolicy(domain)": Option("domain", _policy("domain"), "None"),
    "CookiePolicy(partitioned)": Option("partitioned", _policy("partitioned"), takes=_is_bool),
    "CookiePolicy(replaces)": Option("replaces", _policy("replaces"), "empty_tuple empty_list"),
    "CookiePolicy(replaces_until)": Option(
        "replaces_until", _policy("replaces_until"), "None datetime"
    ),
    "CookiePolicy(max_age)": Option("max_age", _policy("max_age")),
    "SessionStore(redis)": Option("SessionStore", lambda _, v: SessionStore(v)),
    "SessionStore.from_url": Option("from_url", lambda _, v: SessionStore.from_url(v)),
    "SessionStore(lifetime)": Option("lifetime", lambda _, v: _new(lifetime=v)),
    "SessionStore(prefix)": Option(
        "prefix",
        lambda _, v: _new(prefix=v),
        "word yes none 16_times_a",
    ),
    "SessionStore(secret)": Option(
        "secret",
        lambda _, v: _new(secret=v),
        "None list_of_None 16_times_a header long long_and_various",
    ),
    "SessionStore(max_sessions_per_user)": Option(
        "max_sessions_per_user",
        lambda _, v: _new(max_sessions_per_user=v),
        "None",
        takes=_is_integer(1, 2**31),
    ),
    "SessionStore(on_limit)": Option("on_limit", lambda _, v: _new(on_limit=v)),
    "SessionStore(index)": Option(
        "index",
        lambda _, v: _new(index=v),
        "empty no_bytes empty_tuple empty_list empty_dict empty_set",
    ),
    "SessionStore(durability)": Option("durability", lambda _, v: _new(durability=v), "None"),
    "SessionStore(end_durability)": Option(
        "end_durability", lambda _, v: _new(end_durability=v), "None"
    ),
    "SessionStore(limits)": Option("limits", lambda _, v: _new(limits=v)),
    "SessionStore(timeout)": Option("timeout", lambda _, v: _new(timeout=v), takes=_is_duration),
    "SessionStore(on_event)": Option(
        "on_event", lambda _, v: _new(on_event=v), "None class function"
    ),
    "SessionStore(insecure_tls)": Option(
        "insecure_tls", lambda _, v: _new(insecure_tls=v), takes=_is_bool
    ),
    "SessionMiddleware(app)": Option(
        "app", lambda w, v: SessionMiddleware(v, store=w.store), takes=_is_callable
    ),
    "SessionMiddleware(store)": Option("store|Redis URL", lambda w, v: _served(w, store=v)),
    "SessionMiddleware(cookie)": Option("cookie", lambda w, v: _served(w, cookie=v)),
    "SessionMiddleware(autoload)": Option(
        "autoload", lambda w, v: _served(w, autoload=v), "True False", takes=_is_callable
    ),
    "SessionMiddleware(refresh)": Option(
        "refresh", lambda w, v: _served(w, refresh=v), "class function"
    ),
    "SessionMiddleware(unavailable)": Option(
        "unavailable", lambda w, v: _served(w, unavailable=v), takes=_is_callable
    ),
    "dropin(store)": Option("store|Redis URL", _dropped_in("store")),
    "dropin(session_cookie)": Option(
        "session_cookie|name", _dropped_in("session_cookie"), "word yes none star 16_times_a braces"
    ),
    "dropin(max_age)": Option(
        "max_age", _dropped_in("max_age"), "None", takes=lambda v: type(v) is int
    ),
    "dropin(path)": Option("path", _dropped_in("path")),
    "dropin(same_site)": Option("same_site", _dropped_in("same_site"), "none"),
    "dropin(https_only)": Option("https_only|secure", _dropped_in("https_only"), takes=_is_bool),
    "dropin(domain)": Option("domain", _dropped_in("domain"), "None"),
    "dropin(partitioned)": Option("partitioned", _dropped_in("partitioned"), takes=_is_bool),
    "dropin(import_cookies)": Option(
        "import_cookies", _dropped_in("import_cookies"), "datetime", takes=_is_bool
    ),
    "dropin(import_from)": Option(
        "import_from", _dropped_in("import_from"), "empty_tuple empty_list"
    ),
    "dropin(renew_on)": Option(
        "renew_on",
        _dropped_in("renew_on"),
        "empty_tuple empty_list list_of_words empty_set set_of_secrets empty_dict dict generator",
    ),
    "dropin(values)": Option("values", _dropped_in("values")),
    "dropin(unavailable)": Option("unavailable", _dropped_in("unavailable"), takes=_is_callable),
    "store.check(write)": Option("write", lambda w, v: w.store.check(write=v), takes=_is_bool),
    "store.open(cookie_header)": Option(
        "cookie_header",
        lambda w, v: w.store.open(v),
        "None",
        takes=lambda v: type(v) in (str, bytes),
    ),
    "store.open(cookie)": Option("cookie", lambda w, v: w.store.open(None, cookie=v)),
    "session.fetch": Option("name", lambda w, v: w.session.fetch(v), takes=_is_name),
    "session.increment(name)": Option("name", lambda w, v: w.session.increment(v), takes=_is_name),
    "session.increment(amount)": Option(
        "amount", lambda w, v: w.session.increment("n", v), takes=_is_integer(-(2**63), 2**63 - 1)
    ),
    "session.take": Option("name", lambda w, v: w.session.take(v), takes=_is_name),
    "session.transform(name)": Option(
        "name", lambda w, v: w.session.transform(v, len, default=[]), takes=_is_name
    ),
    "session.transform(function)": Option(
        "function", lambda w, v: w.session.transform("n", v, default=1), takes=callable
    ),
    "session.save(durability)": Option(
        "durability", lambda w, v: w.session.save(durability=v), "None"
    ),
    "session.login(user_id)": Option(
        "user id", lambda w, v: w.session.login(v), takes=_is_new_user
    ),
    "session.login(idle)": Option(
        "idle", lambda w, v: w.session.login("ann", idle=v), takes=_is_duration
    ),
    "session.login(absolute)": Option(
        "absolute", lambda w, v: w.session.login("ann", absolute=v), "None", takes=_is_duration
    ),
    "session.set_lifetime(idle)": Option(
        "idle", lambda w, v: w.session.set_lifetime(idle=v), takes=_is_duration
    ),
    "session.set_lifetime(absolute)": Option(
        "absolute", lambda w, v: w.session.set_lifetime(absolute=v), takes=_is_duration
    ),
    "session.is_fresh(max_age)": Option(
        "max_age", lambda w, v: w.session.is_fresh(v), takes=_is_duration
    ),
    "session[name]": Option("name", lambda w, v: w.session.__setitem__(v, 1), takes=_is_name),
    "users.list(user_id)": Option("user id", lambda w, v: w.store.users.list(v), takes=_is_user),
    "users.list(current)": Option(
        "current", lambda w, v: w.store.users.list("ann", current=v), "None"
    ),
    "users.list(offset)": Option(
        "offset", lambda w, v: w.store.users.list("ann", offset=v), takes=_is_integer(0, 2**31)
    ),
    "users.list(limit)": Option(
        "limit", lambda w, v: w.store.users.list("ann", limit=v), takes=_is_integer(1, 1000)
    ),
    "users.count(user_id)": Option("user id", lambda w, v: w.store.users.count(v), takes=_is_user),
    "users.revoke(user_id)": Option(
        "user id", lambda w, v: w.store.users.revoke(v, "0" * 32), takes=_is_user
    ),
    "users.revoke_all(user_id)": Option(
        "user id", lambda w, v: w.store.users.revoke_all(v), takes=_is_user
    ),
    "users.revoke_others(session)": Option("session", lambda w, v: w.store.users.revoke_others(v)),
    "search.count(where)": Option("filter", lambda w, v: w.store.search.count(v), "None"),
    "search.count(exact)": Option(
        "exact", lambda w, v: w.store.search.count(exact=v), takes=_is_bool
    ),
    "search.find(where)": Option("filter", lambda w, v: w.store.search.find(v), "None"),
    "search.find(fields)": Option(
        "fields|name",
        lambda w, v: w.store.search.find(fields=v),
        "None empty_tuple empty_list list_of_words empty_dict dict empty_set set_of_secrets "
        "generator",
    ),
    "search.count_by(field)": Option("Tag|index", lambda w, v: w.store.search.count_by(v), "word"),
    "search.count_by(exact)": Option(
        "exact", lambda w, v: w.store.search.count_by("@user", exact=v), takes=_is_bool
    ),
    "search.sum_by(number)": Option(
        "number|Num|index", lambda w, v: w.store.search.sum_by("@user", v)
    ),
    "search.revoke(where)": Option("revoke", lambda w, v: w.store.search.revoke(v)),
    "search.create_index(rebuild)": Option(
        "rebuild", lambda w, v: w.store.search.create_index(rebuild=v), takes=_is_bool
    ),
    "search.create_index(backfill)": Option(
        "backfill", lambda w, v: w.store.search.create_index(backfill=v), takes=_is_bool
    ),
    "search.create_index(resume)": Option(
        "resume",
        lambda w, v: w.store.search.create_index(resume=v),
        takes=_is_integer(0, 2**64 - 1),
    ),
    "search.create_index(progress)": Option(
        "progress", lambda w, v: w.store.search.create_index(progress=v), "None class function"
    ),
    "Tag(name)": Option("Tag", lambda _, v: Tag(v), takes=_is_name),
    "Num(name)": Option("Num", lambda _, v: Num(v), takes=_is_name),
    "Text(name)": Option("Text", lambda _, v: Text(v), takes=_is_name),
    "Tag.in_": Option("in_", lambda _, v: Tag("x").in_(v), LISTS),
    "require_fresh(max_age)": Option("max_age", lambda _, v: require_fresh(v), takes=_is_duration),
    "closing_when_revoked(every)": Option(
        "every", lambda w, v: _close(w, every=v), takes=_is_duration
    ),
    "closing_when_revoked(code)": Option(
        "code", lambda w, v: _close(w, code=v), takes=_is_integer(1000, 4999)
    ),
}


@pytest.fixture
async def world(session_redis_url: str, prefix: str) -> AsyncIterator[World]:
    async with SessionStore.from_url(
        session_redis_url, prefix=prefix, timeout=20, index=[Tag("x")]
    ) as store:
        yield World(store, await open_session(store).load())


async def _called(option: Option, world: World, value: Any) -> None:
    result = option.call(world, value)
    if inspect.isawaitable(result):
        await result


async def test_nonsense_is_refused_by_its_option(world: World, cases: Cases) -> None:
    """What is no value of the option raises an error that names it, before anything happens."""
    wrong: list[str] = []
    for name, option in OPTIONS.items():
        valid = option.valid.split()
        for label, value in NONSENSE.items():
            if label.replace(" ", "_") in valid or option.takes(value):
                continue
            cases()
            try:
                await _called(option, world, value)
            except (ValueError, TypeError) as error:
                if not re.search(option.named, str(error)) or len(str(error)) > 600:
                    wrong.append(f"{name} = {label}: {type(error).__name__}: {str(error)[:300]}")
            except Exception as error:  # noqa: BLE001
                wrong.append(f"{name} = {label}: {type(error).__name__}")
            else:
                wrong.append(f"{name} = {label}: accepted")
    assert not wrong, "\n".join(wrong)

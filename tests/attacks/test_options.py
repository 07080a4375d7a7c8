"""Every option of every public callable with every nonsense: refused, and named."""

import inspect
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

import asgi_redis_session.gateway
import asgi_redis_session.metrics
import asgi_redis_session.oidc
import asgi_redis_session.otel
from asgi_redis_session import (
    CookiePolicy,
    CrossOriginPolicy,
    Durability,
    HeaderPolicy,
    Key,
    Lifetime,
    Limits,
    Num,
    Session,
    SessionMiddleware,
    SessionStore,
    Tag,
    Text,
)
from asgi_redis_session.dropin import FastAPIRedisSDK, LitestarSessions, Starsessions
from asgi_redis_session.dropin import SessionMiddleware as DropIn
from asgi_redis_session.fastapi import SessionValue, require_fresh, session_dep, user_dep
from asgi_redis_session.gateway import ForwardAuth
from asgi_redis_session.litestar import SessionPlugin
from asgi_redis_session.metrics import PrometheusApp
from asgi_redis_session.oidc import BackchannelLogout
from asgi_redis_session.otel import instrument
from asgi_redis_session.search.queries import Search
from asgi_redis_session.starlette import (
    SessionAuthBackend,
    closing_when_revoked,
    ending_when_revoked,
    load_session_at,
)
from asgi_redis_session.users import Users

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


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if type(value) is float else _is_integer(-(2**53), 2**53)(value)


def _is_name(value: Any) -> bool:
    return type(value) is str and value != "" and "\ud800" not in value


def _is_text(value: Any) -> bool:
    return type(value) is str and value != ""


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


def _is_reason(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return bool(value.strip()) and len(value) <= 200 and value.isprintable()


def _is_rate(value: Any) -> bool:
    return value is None or _is_integer(1, 2**31)(value)


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


async def _nothing() -> AsyncIterator[str]:
    for _ in ():
        yield ""


def _plugged_in(option: str) -> Callable[[World, Any], Any]:
    return lambda world, value: SessionPlugin(**{"store": world.store, option: value})


def _asked(option: str) -> Callable[[World, Any], Any]:
    return lambda world, value: ForwardAuth(**{"store": world.store, option: value})


def _logged_out(option: str) -> Callable[[World, Any], Any]:
    given = {"issuer": "https://id.example.com", "client_id": "shop", "jwks": {}}
    return lambda world, value: BackchannelLogout(**{"store": world.store, **given, option: value})


def _instrumented(option: str) -> Callable[[World, Any], Any]:
    return lambda world, value: instrument(**{"store": world.store, option: value})


def _library(library: type, option: str) -> Callable[[World, Any], Any]:
    return lambda _, value: library(**{option: value})


def _policy(option: str) -> Callable[[World, Any], Any]:
    return lambda _, value: CookiePolicy(**{"name": "s", option: value})


def _limits(option: str) -> Callable[[World, Any], Any]:
    return lambda _, value: Limits(**{option: value})


#: What any list of values may be.
LISTS = (
    "empty_tuple tuple empty_list list list_of_words list_of_None empty_set set set_of_secrets "
    "range generator"
)

_LINK = {"issuer": "https://id.example.com", "sid": "s-1", "sub": "u-1"}


def _linked(name: str, call: Callable[[World, dict[str, Any]], Any]) -> Callable[[World, Any], Any]:
    return lambda world, value: call(world, {**_LINK, name: value})


def _is_claim(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


#: What methods of a login may be.
KEYS = "word yes none 16_times_a"
METHODS = "empty_tuple empty_list list_of_words"


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
    "store.from_url": Option("from_url", lambda _, v: SessionStore.from_url(v)),
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
    "SessionStore(remember_ended)": Option(
        "remember_ended", lambda _, v: _new(remember_ended=v), takes=_is_duration
    ),
    "SessionStore(on_event)": Option(
        "on_event", lambda _, v: _new(on_event=v), "None class function"
    ),
    "SessionStore(sharded)": Option("sharded", lambda _, v: _new(sharded=v), takes=_is_bool),
    "SessionStore(push)": Option("push", lambda _, v: _new(push=v), takes=_is_bool),
    "SessionStore(insecure_tls)": Option(
        "insecure_tls", lambda _, v: _new(insecure_tls=v), takes=_is_bool
    ),
    "SessionStore(encryption)": Option(
        "encryption", lambda _, v: _new(encryption=v), takes=_is_bool
    ),
    "SessionStore(record_origin)": Option(
        "record_origin",
        lambda _, v: _new(record_origin=v),
        "True False class function",
    ),
    "SessionStore(remember_devices)": Option(
        "remember_devices", lambda _, v: _new(remember_devices=v), "None", takes=_is_duration
    ),
    "SessionStore(plain)": Option(
        "plain|name",
        lambda _, v: _new(encryption=True, plain=v),
        "empty_tuple empty_list empty_set list_of_words set_of_secrets",
    ),
    "SessionMiddleware(app)": Option(
        "app", lambda w, v: SessionMiddleware(v, store=w.store), takes=_is_callable
    ),
    "SessionMiddleware(store)": Option("store|Redis URL", lambda w, v: _served(w, store=v)),
    "SessionMiddleware(cookie)": Option(
        "cookie", lambda w, v: _served(w, cookie=v), "class function"
    ),
    "SessionMiddleware(autoload)": Option(
        "autoload", lambda w, v: _served(w, autoload=v), "True False", takes=_is_callable
    ),
    "SessionMiddleware(refresh)": Option(
        "refresh", lambda w, v: _served(w, refresh=v), "class function"
    ),
    "SessionMiddleware(unavailable)": Option(
        "unavailable", lambda w, v: _served(w, unavailable=v), takes=_is_callable
    ),
    "SessionMiddleware(cross_origin)": Option(
        "cross_origin", lambda w, v: _served(w, cross_origin=v)
    ),
    "SessionMiddleware(carrier)": Option("carrier", lambda w, v: _served(w, carrier=v), "None"),
    "HeaderPolicy(name)": Option(
        "HeaderPolicy", lambda _, v: HeaderPolicy(name=v), "word yes none 16_times_a star"
    ),
    "HeaderPolicy(scheme)": Option(
        "HeaderPolicy",
        lambda _, v: HeaderPolicy(name="X", scheme=v),
        "None word yes none 16_times_a star",
    ),
    "HeaderPolicy(response)": Option(
        "HeaderPolicy", lambda _, v: HeaderPolicy(response=v), "word yes none 16_times_a star"
    ),
    "SessionMiddleware(key)": Option("key", lambda w, v: _served(w, key=v), KEYS),
    "SessionMiddleware(bind)": Option(
        "bind", lambda w, v: _served(w, bind=v), "None class function"
    ),
    "SessionMiddleware(on_bind_change)": Option(
        "on_bind_change", lambda w, v: _served(w, on_bind_change=v)
    ),
    "SessionMiddleware(trusted_origins)": Option(
        "trusted_origins",
        lambda w, v: _served(w, cross_origin="refuse", trusted_origins=v),
        "empty_tuple empty_list",
    ),
    "CrossOriginPolicy(trusted_origins)": Option(
        "trusted_origins",
        lambda _, v: CrossOriginPolicy(trusted_origins=v),
        "empty_tuple empty_list",
    ),
    "CrossOriginPolicy(exempt_paths)": Option(
        "exempt_paths", lambda _, v: CrossOriginPolicy(exempt_paths=v), "empty_tuple empty_list"
    ),
    "CrossOriginPolicy(same_site)": Option(
        "same_site", lambda _, v: CrossOriginPolicy(same_site=v), takes=_is_bool
    ),
    "CrossOriginPolicy(forwarded_host)": Option(
        "forwarded_host", lambda _, v: CrossOriginPolicy(forwarded_host=v), takes=_is_bool
    ),
    "dropin(app)": Option(
        "app", lambda w, v: DropIn(v, "k" * 32, store=w.store), takes=_is_callable
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
    "dropin(https_only)": Option(
        "https_only|secure", _dropped_in("https_only"), "class function", takes=_is_bool
    ),
    "dropin(domain)": Option("domain", _dropped_in("domain"), "None class function"),
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
    "dropin(cross_origin)": Option("cross_origin", _dropped_in("cross_origin")),
    "dropin(trusted_origins)": Option(
        "trusted_origins", _dropped_in("trusted_origins"), "empty_tuple empty_list"
    ),
    "store.check(write)": Option("write", lambda w, v: w.store.check(write=v), takes=_is_bool),
    "store.open(cookie_header)": Option(
        "cookie_header",
        lambda w, v: w.store.open(v),
        "None",
        takes=lambda v: type(v) in (str, bytes),
    ),
    "store.open(cookie)": Option("cookie", lambda w, v: w.store.open(None, cookie=v)),
    "store.open(header)": Option(
        "header",
        lambda w, v: w.store.open(None, header=v),
        "None",
        takes=lambda v: type(v) in (str, bytes),
    ),
    "store.open(carrier)": Option("carrier", lambda w, v: w.store.open(None, carrier=v), "None"),
    "session.fetch": Option("name", lambda w, v: w.session.fetch(v), takes=_is_name),
    "session.increment(name)": Option("name", lambda w, v: w.session.increment(v), takes=_is_name),
    "session.increment(amount)": Option(
        "amount", lambda w, v: w.session.increment("n", v), takes=_is_integer(-(2**63), 2**63 - 1)
    ),
    "Key(name)": Option("name", lambda _, v: Key(v, int), takes=_is_name),
    "Key(type)": Option("type", lambda _, v: Key("x", v), "class"),
    "Key(upgrade)": Option(
        "upgrade", lambda _, v: Key("x", int, upgrade=v), "None", takes=_is_callable
    ),
    "Key(on_misfit)": Option("on_misfit", lambda _, v: Key("x", int, on_misfit=v)),
    "Key.encode": Option("session", lambda _, v: Key("x", date).encode(v), "date"),
    "Key.decode(plain)": Option("session", lambda _, v: Key("x", date).decode(v), "date"),
    "SessionValue": Option("SessionValue", lambda _, v: SessionValue(v)),
    "session.set(name)": Option("name", lambda w, v: w.session.set(v, 1, ttl=9), takes=_is_name),
    "session.set(ttl)": Option(
        "ttl", lambda w, v: w.session.set("n", 1, ttl=v), "None", takes=_is_duration
    ),
    "session.append(name)": Option(
        "name", lambda w, v: w.session.append(v, 1, keep=9), takes=_is_name
    ),
    "session.append(keep)": Option(
        "keep", lambda w, v: w.session.append("list", 1, keep=v), takes=_is_integer(1, 100_000)
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
    "session.login(actor)": Option(
        "actor", lambda w, v: w.session.login("ann", actor=v), "None", takes=_is_new_user
    ),
    "session.login(amr)": Option("amr", lambda w, v: w.session.login("ann", amr=v), METHODS),
    "session.login(persistent)": Option(
        "persistent", lambda w, v: w.session.login("ann", persistent=v), "None", takes=_is_bool
    ),
    **{
        f"session.login({name})": Option(
            name,
            _linked(name, lambda w, link: w.session.login("ann", **link)),
            "None",
            takes=_is_claim,
        )
        for name in ("issuer", "sid", "sub")
    },
    **{
        f"store.revoke_sid({name})": Option(
            name,
            _linked(name, lambda w, link: w.store.revoke_sid(**link)),
            "None",
            takes=_is_claim,
        )
        for name in ("issuer", "sid", "sub")
    },
    "session.set_lifetime(idle)": Option(
        "idle", lambda w, v: w.session.set_lifetime(idle=v), takes=_is_duration
    ),
    "session.set_lifetime(absolute)": Option(
        "absolute", lambda w, v: w.session.set_lifetime(absolute=v), takes=_is_duration
    ),
    "session.is_fresh(max_age)": Option(
        "max_age", lambda w, v: w.session.is_fresh(v), takes=_is_duration
    ),
    "session.is_fresh(amr)": Option("amr", lambda w, v: w.session.is_fresh(60, amr=v), METHODS),
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
    "users.export(user_id)": Option(
        "user id", lambda w, v: w.store.users.export(v), takes=_is_user
    ),
    "users.erase(user_id)": Option("user id", lambda w, v: w.store.users.erase(v), takes=_is_user),
    "users.revoke_all(user_id)": Option(
        "user id", lambda w, v: w.store.users.revoke_all(v), takes=_is_user
    ),
    "users.revoke_others(session)": Option("session", lambda w, v: w.store.users.revoke_others(v)),
    "users.revoke(reason)": Option(
        "reason", lambda w, v: w.store.users.revoke("ann", "0" * 32, reason=v), takes=_is_reason
    ),
    "users.revoke_all(reason)": Option(
        "reason", lambda w, v: w.store.users.revoke_all("ann", reason=v), takes=_is_reason
    ),
    "users.revoke_others(reason)": Option(
        "reason|no user", lambda w, v: w.store.users.revoke_others(w.session, reason=v)
    ),
    "store.revoke(reason)": Option(
        "reason", lambda w, v: w.store.revoke("0" * 32, reason=v), takes=_is_reason
    ),
    "store.count(keys_per_second)": Option(
        "keys_per_second",
        lambda w, v: w.store.count(keys_per_second=v),
        takes=_is_rate,
    ),
    "store.scan(user)": Option("user id", lambda w, v: w.store.scan(v), "None", takes=_is_user),
    "store.scan(idle_for)": Option(
        "idle_for", lambda w, v: w.store.scan(idle_for=v), "None", takes=_is_duration
    ),
    "store.scan(keys_per_second)": Option(
        "keys_per_second", lambda w, v: w.store.scan(keys_per_second=v), takes=_is_rate
    ),
    "store.revoke_where(function)": Option(
        "function", lambda w, v: w.store.revoke_where(v), "class function"
    ),
    "store.revoke_where(idle_for)": Option(
        "idle_for",
        lambda w, v: w.store.revoke_where(bool, idle_for=v),
        "None",
        takes=_is_duration,
    ),
    "store.revoke_where(reason)": Option(
        "reason", lambda w, v: w.store.revoke_where(bool, reason=v), takes=_is_reason
    ),
    "store.revoke_where(dry_run)": Option(
        "dry_run", lambda w, v: w.store.revoke_where(bool, dry_run=v), takes=_is_bool
    ),
    "store.revoke_where(keys_per_second)": Option(
        "keys_per_second",
        lambda w, v: w.store.revoke_where(bool, keys_per_second=v),
        takes=_is_rate,
    ),
    **{
        f"{library.__name__}({option})": Option(option, _library(library, option), valid)
        for library in (Starsessions, FastAPIRedisSDK, LitestarSessions)
        for option, valid in (
            ("cookie", "word yes none 16_times_a star"),
            (
                "prefix",
                "word yes none 16_times_a braces star path semicolon blank_inside umlaut",
            ),
        )
    },
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
    "search.count_by(where)": Option(
        "filter", lambda w, v: w.store.search.count_by("@user", v), "None"
    ),
    "search.sum_by(field)": Option("Tag|index", lambda w, v: w.store.search.sum_by(v, "n"), "word"),
    "search.sum_by(where)": Option(
        "filter", lambda w, v: w.store.search.sum_by("x", "@created", v), "None"
    ),
    "search.count_by(field)": Option("Tag|index", lambda w, v: w.store.search.count_by(v), "word"),
    "search.count_by(exact)": Option(
        "exact", lambda w, v: w.store.search.count_by("@user", exact=v), takes=_is_bool
    ),
    "search.sum_by(number)": Option(
        "number|Num|index", lambda w, v: w.store.search.sum_by("@user", v)
    ),
    "search.revoke(where)": Option("revoke", lambda w, v: w.store.search.revoke(v)),
    "search.revoke(reason)": Option(
        "reason",
        lambda w, v: w.store.search.revoke(Tag("x") == "", reason=v),
        # What is a reason takes an index.
        takes=_is_reason,
    ),
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
    "Tag.contains_any": Option("contains_any|Tag", lambda _, v: Tag("x").contains_any(v), LISTS),
    "Num.in_": Option("in_|Num", lambda _, v: Num("x").in_(v), LISTS),
    "Num.between(low)": Option("Num", lambda _, v: Num("x").between(v, 2**50), takes=_is_number),
    "Num.between(high)": Option("Num", lambda _, v: Num("x").between(0, v), takes=_is_number),
    "Text.contains_any": Option("contains_any|Text", lambda _, v: Text("x").contains_any(v), LISTS),
    "SessionPlugin(store)": Option("store|Redis URL", lambda w, v: SessionPlugin(store=v)),
    "SessionPlugin(cookie)": Option("cookie", _plugged_in("cookie"), "class function"),
    "SessionPlugin(carrier)": Option("carrier", _plugged_in("carrier"), "None"),
    "SessionPlugin(key)": Option("key", _plugged_in("key"), KEYS),
    "SessionPlugin(autoload)": Option(
        "autoload", _plugged_in("autoload"), "True False", takes=_is_callable
    ),
    "SessionPlugin(refresh)": Option("refresh", _plugged_in("refresh"), "class function"),
    "SessionPlugin(unavailable)": Option(
        "unavailable", _plugged_in("unavailable"), takes=_is_callable
    ),
    "SessionPlugin(cross_origin)": Option("cross_origin", _plugged_in("cross_origin")),
    "SessionPlugin(trusted_origins)": Option(
        "trusted_origins",
        lambda w, v: SessionPlugin(store=w.store, cross_origin="refuse", trusted_origins=v),
        "empty_tuple empty_list",
    ),
    "SessionPlugin(bind)": Option("bind", _plugged_in("bind"), "None class function"),
    "SessionPlugin(on_bind_change)": Option("on_bind_change", _plugged_in("on_bind_change")),
    "SessionPlugin(dependency)": Option(
        "dependency",
        _plugged_in("dependency"),
        "None word yes none 16_times_a umlaut long long_and_various",
    ),
    "ForwardAuth(store)": Option("store", lambda _, v: ForwardAuth(v)),
    "ForwardAuth(cookie)": Option("cookie", _asked("cookie")),
    "ForwardAuth(carrier)": Option("carrier", _asked("carrier"), "None"),
    "ForwardAuth(fields)": Option("fields", _asked("fields"), "None empty_dict"),
    "ForwardAuth(idle_is_known)": Option("idle_is_known", _asked("idle_is_known"), takes=_is_bool),
    "ForwardAuth(anonymous)": Option("anonymous", _asked("anonymous"), takes=_is_bool),
    "ForwardAuth(login_url)": Option("login_url", _asked("login_url"), "None"),
    "ForwardAuth(uri_header)": Option(
        "uri_header", _asked("uri_header"), "word yes none 16_times_a"
    ),
    "BackchannelLogout(store)": Option("store", _logged_out("store")),
    "BackchannelLogout(issuer)": Option("issuer", _logged_out("issuer"), takes=_is_text),
    "BackchannelLogout(client_id)": Option("client_id", _logged_out("client_id"), takes=_is_text),
    "BackchannelLogout(jwks)": Option(
        "jwks", _logged_out("jwks"), "empty_dict dict", takes=_is_callable
    ),
    "PrometheusApp(stores)": Option("store", lambda _, v: PrometheusApp(v)),
    "PrometheusApp(registry)": Option(
        "registry", lambda w, v: PrometheusApp(w.store, registry=v), "None"
    ),
    "instrument(store)": Option("store", _instrumented("store")),
    "instrument(tracer_provider)": Option(
        "tracer_provider", _instrumented("tracer_provider"), "None"
    ),
    "instrument(meter_provider)": Option("meter_provider", _instrumented("meter_provider"), "None"),
    "session_dep(cookie_name)": Option(
        "cookie_name|name",
        lambda _, v: session_dep(cookie_name=v),
        "None word yes none 16_times_a star",
    ),
    "session_dep(key)": Option("key", lambda _, v: session_dep(key=v), KEYS),
    "user_dep(key)": Option("key", lambda _, v: user_dep(key=v), KEYS),
    "require_fresh(key)": Option("key", lambda _, v: require_fresh(60, key=v), KEYS),
    "SessionValue(session_key)": Option(
        "session_key", lambda _, v: SessionValue(Key("n", int), session_key=v), KEYS
    ),
    "SessionAuthBackend(key)": Option("key", lambda _, v: SessionAuthBackend(key=v), KEYS),
    "closing_when_revoked(key)": Option("key", lambda w, v: _close(w, key=v), KEYS),
    "load_session_at(key)": Option(
        "key", lambda _, v: load_session_at(HTTPConnection({"type": "http"}), v), KEYS
    ),
    "user_dep(cookie_name)": Option(
        "cookie_name|name",
        lambda _, v: user_dep(cookie_name=v),
        "None word yes none 16_times_a star",
    ),
    "require_fresh(cookie_name)": Option(
        "cookie_name|name",
        lambda _, v: require_fresh(60, cookie_name=v),
        "None word yes none 16_times_a star",
    ),
    "require_fresh(max_age)": Option("max_age", lambda _, v: require_fresh(v), takes=_is_duration),
    "require_fresh(amr)": Option("amr", lambda _, v: require_fresh(60, amr=v), METHODS),
    "closing_when_revoked(every)": Option(
        "every", lambda w, v: _close(w, every=v), takes=_is_duration
    ),
    "ending_when_revoked(stream)": Option("stream", lambda w, v: ending_when_revoked(v, w.session)),
    "ending_when_revoked(session)": Option(
        "session", lambda w, v: ending_when_revoked(_nothing(), v)
    ),
    "ending_when_revoked(every)": Option(
        "every",
        lambda w, v: ending_when_revoked(_nothing(), w.session, every=v),
        takes=_is_duration,
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


#: What takes anything, or is no option of an app: by name of a parameter.
FREE = {
    "handle": "it may come from a form: what is none leads to no session",
    **dict.fromkeys(("key", "default", "value", "other", "kwds"), "as in a dict"),
    "secret_key": "Starlette takes anything; the drop-in needs it for `import_cookies` alone",
    "options": "those of SessionStore",
    "names": "those of session.fetch, which has a row",
    **dict.fromkeys(("websocket", "connection"), "Starlette's"),
}
#: What the library makes, and apps only look at; or what a framework calls.
MADE = {
    *("Absence", "Backfill", "CheckReport", "Filter", "Finding", "IndexStatus", "OpenedSession"),
    *("SessionEvent", "SessionInfo", "Stats", "Session", "Users", "Search", "SessionUser"),
    *("CheckReport.of", "Filter.text", "SessionAuthBackend.authenticate", "require_user"),
    *("SessionPlugin.on_app_init", "load_session", "CookiePolicy.headers_for"),
    *("CookiePolicy.read", "CookiePolicy.render", "CookiePolicy.values"),
    *("HeaderPolicy.read", "HeaderPolicy.headers_for"),
    *(f"{kind}.{method}" for kind in ("Tag", "Num", "Text") for method in ("check", "shadow_of")),
}
#: How the table calls them, where that is shorter.
SHORT = {
    "SessionStore.": "store.",
    "Session.": "session.",
    "Users.": "users.",
    "Search.": "search.",
}
MODULES = (
    *(asgi_redis_session, asgi_redis_session.fastapi, asgi_redis_session.starlette),
    *(asgi_redis_session.litestar, asgi_redis_session.dropin, asgi_redis_session.gateway),
    *(asgi_redis_session.metrics, asgi_redis_session.oidc, asgi_redis_session.otel),
)


def _callables() -> Iterator[tuple[str, Any]]:
    """All public functions, classes and methods, by name."""
    found = {f"{m.__name__}.{n}": getattr(m, n) for m in MODULES for n in m.__all__}
    for path, one in [*found.items(), ("Users", Users), ("Search", Search)]:
        name = path.rpartition(".")[2]
        if path == "asgi_redis_session.dropin.SessionMiddleware":
            name = "dropin"
        if path == "asgi_redis_session.dropin.Session":  # a dict, which the drop-in makes
            continue
        if inspect.isclass(one) and not issubclass(one, Exception):
            yield name, one
            for method, function in inspect.getmembers(one, callable):
                if not method.startswith("_"):
                    yield f"{name}.{method}", function
        elif inspect.isfunction(one):
            yield name, one


def test_no_option_is_left_out() -> None:
    """Each parameter of what is public has its row, or takes anything."""
    missing = []
    for name, one in _callables():
        short = name
        for long, instead in SHORT.items():
            short = instead + name.removeprefix(long) if name.startswith(long) else short
        for parameter in {} if name in MADE else inspect.signature(one).parameters:
            rows = {short, f"{short}({parameter})"}
            if parameter not in FREE and parameter != "self" and not rows & OPTIONS.keys():
                missing.append(f"{short}({parameter})")
    assert missing == []

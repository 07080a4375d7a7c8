"""
The cells of docs/verbs.md that touch a user's index: the steps of each verb, and what a crash, a
write and a revocation between two of them leave.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis

from asgi_redis_session import Session, SessionGone, SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.internals import (
    cookie_change,
    discard,
    handle_of,
    id_of,
    is_cluster,
    limit_sessions,
    new_id,
    open_session,
)
from ..support.keyspace import age_pending, index_key, look
from ..support.sessions import create, is_live, live_among, log_in, opened
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster

Act = Callable[[SessionStore, Session], Coroutine[Any, Any, Any]]


async def session_of(store: SessionStore, user: str) -> Session:
    """A loaded session of this user; "": of nobody."""
    session_id = await (log_in(store, user, n=1) if user else create(store, n=1))
    await store.drain()  # a login prunes on the side, and its scripts would count
    return await open_session(store, session_id).load()


# --- Steps ---


async def _create(store: SessionStore, session: Session) -> None:
    await create(store, n=1)


async def _save(store: SessionStore, session: Session) -> None:
    session["n"] = 2
    await session.save()


async def _edit(store: SessionStore, session: Session) -> None:
    async with store.edit(session.handle or "") as edited:
        edited["n"] = 2


async def _renew(store: SessionStore, session: Session) -> None:
    session.renew()
    await session.save()


async def _log_in(store: SessionStore, session: Session) -> None:
    await session.login("ann")
    await session.save()


async def _log_in_afresh(store: SessionStore, session: Session) -> None:
    await log_in(store, "ann")


async def _log_in_at_the_limit(store: SessionStore, session: Session) -> None:
    limit_sessions(store, 1)
    await log_in(store, "ann")


#: Verb, the user of its session, and its scripts, with those that only a Cluster needs.
STEPS: dict[str, tuple[Act, str, list[str]]] = {
    "load": (lambda store, session: session.reload(), "ann", ["load"]),
    "touch": (lambda store, session: session.touch(), "ann", ["load"]),
    "fetch": (lambda store, session: open_again(store, session).fetch("n"), "ann", ["load"]),
    "save": (_save, "ann", ["save"]),
    "create": (_create, "", ["create"]),
    "increment": (lambda store, session: session.increment("n"), "ann", ["increment"]),
    "edit": (_edit, "ann", ["load", "save"]),
    "renew, anonymous": (_renew, "", ["take_hash", "save"]),
    "renew": (_renew, "ann", ["move", "take_hash", "save", "confirm", "keep", "release"]),
    "login, no session": (_log_in_afresh, "", ["reserve", "create", "confirm", "keep"]),
    "login, anonymous": (_log_in, "", ["reserve", "take_hash", "login", "confirm", "keep"]),
    "login, again": (
        _log_in,
        "ann",
        ["reserve", "take_hash", "login", "confirm", "keep", "release"],
    ),
    "login, another's session": (
        _log_in,
        "bob",
        ["reserve", "create", "confirm", "keep", "end", "release"],
    ),
    "login, at the limit": (
        _log_in_at_the_limit,
        "ann",
        # Full, so it is pruned; granted; the oldest ends; it is no longer full.
        [
            *("reserve", "list", "load", "list"),
            *("reserve", "end", "release", "reserve"),
            *("create", "confirm", "keep"),
        ],
    ),
    "logout, anonymous": (lambda store, session: session.logout(), "", ["end"]),
    "logout": (lambda store, session: session.logout(), "ann", ["end", "release"]),
    "revoke": (
        lambda store, session: store.revoke(session.handle or ""),
        "ann",
        ["end", "release"],
    ),
    "revoke_all": (
        lambda store, session: store.users.revoke_all("ann"),
        "ann",
        ["list", "provider_revoke", "end", "release", "list"],
    ),
}


#: The verbs that give a hash a new key, by the script that does it.
MOVES: dict[str, Act] = {"save": _renew, "login": _log_in}


def open_again(store: SessionStore, session: Session) -> Session:
    """The same session in another request, not loaded yet."""
    return open_session(store, id_of(session))


@pytest.mark.parametrize("verb", STEPS)
async def test_verbs_steps(store: SessionStore, verb: str) -> None:
    """Each verb waits for these scripts, in this order; a Cluster takes some more."""
    act, user, scripts = STEPS[verb]
    session = await session_of(store, user)
    steps = Steps(store)
    await act(store, session)
    on_cluster = {"take_hash", "keep"}
    expected = [name for name in scripts if name not in on_cluster or is_cluster(store)]
    assert steps.names == expected


@pytest.mark.parametrize(("act", "reserve"), [(_renew, "move"), (_log_in, "reserve")])
async def test_verbs_a_place_comes_before_its_hash(
    store: SessionStore, admin: Any, prefix: str, act: Act, reserve: str
) -> None:
    """Reserved, which a negative score says, while there is no hash; then confirmed."""
    session = await session_of(store, "ann")
    old = session.handle
    reached, go_on = Steps(store).pause_after(reserve)
    acting = asyncio.create_task(act(store, session))
    await reached.wait()
    seen = look(admin, prefix)
    places = seen.places[index_key(prefix, "ann")]
    assert list(seen.users) == [old]
    assert sorted(score < 0 for score in places.values()) == [False, True]
    assert places[old or ""] > 0
    go_on.set()
    await acting
    seen = look(admin, prefix)
    places = seen.places[index_key(prefix, "ann")]
    assert list(seen.users) == list(places) == [session.handle]
    assert min(places.values()) > 0


# --- Crashes and refusals ---


@pytest.mark.parametrize("act", [_renew, _log_in])
async def test_verbs_crash_after_the_place(
    store: SessionStore, admin: Any, prefix: str, act: Act
) -> None:
    """The session is as it was; the place counts as nothing, and is pruned after a minute."""
    session = await session_of(store, "ann")
    session_id, handle = id_of(session) or "", session.handle or ""
    steps = Steps(store)
    steps.fail_at(1, asyncio.CancelledError(), done=True)
    with pytest.raises(asyncio.CancelledError):
        await act(store, session)
    steps.on_step = None
    assert len(look(admin, prefix).places[index_key(prefix, "ann")]) == 2
    again = await open_session(store, session_id).load()
    assert (again.user_id, dict(again)) == ("ann", {"n": 1})
    age_pending(admin, prefix)
    assert await store.users.count("ann") == 1
    assert list(look(admin, prefix).places[index_key(prefix, "ann")]) == [handle]


@pytest.mark.one_node
@pytest.mark.parametrize("user", ["", "ann"])
@pytest.mark.parametrize("step", MOVES)
async def test_verbs_refused_inside_a_move(prefix: str, user: str, step: str) -> None:
    """The server is full when the hash would get its new key: nothing has happened."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        async with opened(server.url, prefix) as store:
            session = await session_of(store, user)
            session_id, key = id_of(session) or "", f"{prefix}:{session.handle}"
            was = admin.hgetall(key)
            reached, go_on = Steps(store).pause_before(step)
            acting = asyncio.create_task(MOVES[step](store, session))
            await reached.wait()
            admin.config_set("maxmemory", 1)
            go_on.set()
            with pytest.raises(SessionUnavailable):
                await acting
            assert admin.hgetall(key) == was
            admin.config_set("maxmemory", 0)
            discard(session)
            assert await is_live(store, session_id)
            age_pending(admin, prefix)
            assert await store.users.count("ann") == (user == "ann")
            assert list(look(admin, prefix).users) == [handle_of(store, session_id)]


async def test_verbs_login_crash_before_the_other_session_ends(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Bob's old id stays valid, in his list; Ann's session is in hers, and nobody has its id."""
    session = await session_of(store, "bob")
    old = id_of(session) or ""
    steps = Steps(store)
    names = ["reserve", "create", "confirm", *(["keep"] if is_cluster(store) else []), "end"]
    steps.fail_at(len(names), asyncio.CancelledError(), done=False)
    with pytest.raises(asyncio.CancelledError):
        await _log_in(store, session)
    assert steps.names == names
    steps.on_step = None
    assert cookie_change(session) is None
    assert await is_live(store, old)
    seen = look(admin, prefix)
    assert sorted(seen.users.values()) == ["ann", "bob"]
    assert seen.unlisted(prefix) == seen.immortal == []
    assert [await store.users.count(user) for user in ("ann", "bob")] == [1, 1]


async def test_verbs_revoke_all_crash(store: SessionStore, admin: Any, prefix: str) -> None:
    """After the list: nothing has happened. After the ends: only places, which are pruned."""
    ids = [await log_in(store, "ann") for _ in range(2)]
    await store.drain()
    steps = Steps(store)
    for number, last, live in ((1, "list", ids), (5, "release", [])):
        steps.fail_at(number, asyncio.CancelledError(), done=last == "list")
        with pytest.raises(asyncio.CancelledError):
            await store.users.revoke_all("ann")
        assert steps.names[number - 1] == last
        steps.on_step = None
        assert await live_among(store, ids) == live
        assert len(look(admin, prefix).places[index_key(prefix, "ann")]) == 2
    assert await store.users.count("ann") == 0
    assert look(admin, prefix).places == {}


# --- Writes and revocations in between ---


@pytest.mark.parametrize(("user", "kept"), [("", True), ("ann", True), ("bob", False)])
async def test_verbs_login_and_a_write(
    store: SessionStore, admin: Any, prefix: str, user: str, kept: bool
) -> None:
    """Before the commit: moves along, but from another user's session. After it: gone."""
    session = await session_of(store, user)
    early, late = [await open_again(store, session).load() for _ in range(2)]
    await session.login("ann")
    early["early"] = True
    await early.save()
    await session.save()
    late["late"] = True
    with pytest.raises(SessionGone):
        await late.save()
    moved = await open_session(store, new_id(session)).load()
    assert dict(moved) == ({"n": 1, "early": True} if kept else {})
    assert list(look(admin, prefix).users.values()) == ["ann"]


@pytest.mark.parametrize("step", MOVES)
@pytest.mark.parametrize("confirmed", [False, True])
async def test_verbs_revoke_all_after_a_move(
    store: SessionStore, admin: Any, prefix: str, step: str, confirmed: bool
) -> None:
    """
    It ends the hash under its new key, be the place confirmed yet or not; in a Cluster, the last
    step finds out.
    """
    session = await session_of(store, "ann")
    reached, go_on = Steps(store).pause_after("confirm" if confirmed else step)
    acting = asyncio.create_task(MOVES[step](store, session))
    await reached.wait()
    assert await store.users.revoke_all("ann") == 1
    go_on.set()
    if confirmed and not is_cluster(store):
        await acting
        assert not await is_live(store, new_id(session))
    else:
        with pytest.raises(SessionGone):
            await acting
        assert cookie_change(session) is None
    seen = look(admin, prefix)
    assert (seen.users, seen.places) == ({}, {})


async def test_verbs_logout_and_a_write(store: SessionStore, admin: Any, prefix: str) -> None:
    """Before: ends with the session. After: gone."""
    session = await session_of(store, "ann")
    early, late = [await open_again(store, session).load() for _ in range(2)]
    early["early"], late["late"] = True, True
    await early.save()
    await session.logout()
    with pytest.raises(SessionGone):
        await late.save()
    seen = look(admin, prefix)
    assert (seen.users, seen.places) == ({}, {})


async def test_verbs_revoke_all_and_a_write(store: SessionStore, admin: Any, prefix: str) -> None:
    """Between the list and the ends: ends with the session. After them: gone."""
    early, late = await session_of(store, "ann"), await session_of(store, "ann")
    early["early"], late["late"] = True, True
    reached, go_on = Steps(store).pause_after("list")
    revoking = asyncio.create_task(store.users.revoke_all("ann"))
    await reached.wait()
    await early.save()
    go_on.set()
    assert await revoking == 2
    with pytest.raises(SessionGone):
        await late.save()
    seen = look(admin, prefix)
    assert (seen.users, seen.places) == ({}, {})

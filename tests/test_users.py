"""
Logins and the sessions of users: the index never loses a live session, whatever happens when.

Redis is real throughout. What the tests do wrap is the sending of a step (`Steps`): to wait before
or after it, or to fail there, as a process does that is slow or dies.
"""

import asyncio
import hashlib
import random
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import (
    Lifetime,
    Session,
    SessionEvent,
    SessionGone,
    SessionLimitReached,
    SessionMiddleware,
    SessionStore,
    SessionTooLate,
    SessionUnavailable,
    SessionValueError,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from .conftest import PLAIN
from .serving import PATIENCE, serve
from .support.internals import (
    Send,
    cookie_change,
    discard,
    handle_of,
    handles_of,
    is_cluster,
    new_id,
    open_session,
    requests_lane,
    take_place,
)
from .support.steps import Steps
from .test_concurrency import create

ROOT = Path(__file__).parent.parent

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
DAY_MS = 24 * 3600 * 1000


@dataclass
class Look:
    """What Redis holds under a prefix."""

    #: The user of each live hash ("" for nobody), by handle.
    users: dict[str, str] = field(default_factory=dict)
    #: The places of each index, by key.
    places: dict[str, dict[str, float]] = field(default_factory=dict)
    immortal: list[str] = field(default_factory=list)

    def unlisted(self, prefix: str) -> list[str]:
        """Live sessions of users that no index lists."""
        return [
            handle
            for handle, user in self.users.items()
            if user and handle not in self.places.get(index_key(prefix, user), {})
        ]


def forget(admin: Any, prefix: str) -> None:
    """Delete every key, one by one: in a Cluster they live in different slots."""
    for key in list(admin.scan_iter(f"{prefix}:*", count=1000)):
        admin.delete(key)


def look(admin: Any, prefix: str) -> Look:
    seen = Look()
    keys = [key.decode() for key in admin.scan_iter(f"{prefix}:*", count=1000)]
    with admin.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.pttl(key)
            if key.startswith(f"{prefix}:user:"):
                pipe.zrange(key, 0, -1, withscores=True)
            else:
                pipe.hget(key, "@user")
        replies = iter(pipe.execute())
    for key, ttl, content in zip(keys, replies, replies, strict=True):
        if ttl == -1:
            seen.immortal.append(key)
        if ttl == -2:
            continue
        if key.startswith(f"{prefix}:user:"):
            seen.places[key] = {handle.decode(): score for handle, score in content}
        else:
            seen.users[key.rpartition(":")[2]] = (content or b"").decode()
    return seen


def index_key(prefix: str, user: str | int) -> str:
    digest = hashlib.sha256(str(user).encode()).hexdigest()[:32]
    return f"{prefix}:user:{digest}"


def expiry(admin: Any, key: str) -> int:
    """PEXPIRETIME, which Redis has since 7.0."""
    time, ttl = admin.eval("return {redis.call('TIME'), redis.call('PTTL', KEYS[1])}", 1, key)
    return int(time[0]) * 1000 + int(time[1]) // 1000 + int(ttl)


async def log_in(
    store: SessionStore,
    user: str | int,
    session_id: str | None = None,
    *,
    lifetime: Mapping[str, Any] | None = None,
    **fields: Any,
) -> str:
    """A session of this user; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login(user, **(lifetime or {}))
    session.update(fields)
    await session.save()
    return new_id(session)


async def is_live(store: SessionStore, session_id: str) -> bool:
    return not (await open_session(store, session_id, slide=False).load()).is_new


async def live_among(store: SessionStore, ids: Iterable[str]) -> list[str]:
    ids = list(ids)
    alive = await asyncio.gather(*[is_live(store, session_id) for session_id in ids])
    return [session_id for session_id, lives in zip(ids, alive, strict=True) if lives]


def age_place(admin: Any, prefix: str, user: str, handle: str, ms: int) -> None:
    """As if the login, and so its place, were this much older."""
    key = f"{prefix}:{handle}"
    for name in ("@created", "@auth", "@seen"):
        if admin.hexists(key, name):
            admin.hset(key, name, int(admin.hget(key, name)) - ms)
    admin.zincrby(index_key(prefix, user), -ms, handle)


def age_pending(admin: Any, prefix: str) -> None:
    """As if all places that are not confirmed had been taken more than a minute ago."""
    for key, places in look(admin, prefix).places.items():
        for handle, score in places.items():
            if score < 0:
                admin.zadd(key, {handle: score + 61_000})


@asynccontextmanager
async def opened(url: str, prefix: str, **options: Any) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(url, prefix=prefix, **options) as store:
        yield store


# --- Bugs' corners: each of these was an order of steps that once went wrong ---


async def test_a_retried_login_leaves_no_unlisted_session(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """`save()` fails after the hash was written, and is tried again: no live session unlisted."""
    steps = Steps(store)
    for session_id in (None, await create(store, n=1), await log_in(store, "ann")):
        for lost in ("login", "create", "confirm"):
            session = await open_session(store, session_id).load()
            await session.login("ann")

            async def on_step(name: str, _: int, send: Send, lost: str = lost) -> Any:
                reply = await send()
                if name == lost:
                    steps.on_step = None
                    raise SessionUnavailable(name)
                return reply

            steps.on_step = on_step
            try:
                await session.save()
            except SessionUnavailable:
                with pytest.raises(SessionGone):
                    await session.save()
            await store.drain()
            assert look(admin, prefix).unlisted(prefix) == []


async def test_counting_never_ends_a_session_that_is_being_renewed(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A renewal of a login older than a minute, with a count between its steps: it lives."""
    session_id = await log_in(store, "ann")
    (info,) = await store.users.list("ann")
    age_place(admin, prefix, "ann", info.handle, 3_600_000)
    session = await open_session(store, session_id).load()
    session.renew()
    reached, go_on = Steps(store).pause_after("move")
    saving = asyncio.create_task(session.save())
    await reached.wait()
    assert await store.users.count("ann") == 1
    go_on.set()
    await saving
    assert await is_live(store, new_id(session))


async def test_the_index_outlives_a_login_that_takes_its_time(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Between `login` and the commit time passes: the index still lives as long as the session."""
    session = await open_session(store).load()
    await session.login("ann")
    await asyncio.sleep(0.05)
    await session.save()
    deadline = int(admin.hget(f"{prefix}:{session.handle}", "@deadline"))
    assert expiry(admin, index_key(prefix, "ann")) >= deadline - 2


async def test_incrementing_after_another_user_logged_in_leaves_his_data_alone(
    store: SessionStore,
) -> None:
    """Bob logs in on Ann's session and increments: neither reads nor changes what was Ann's."""
    session_id = await log_in(store, "ann", n=41)
    session = await open_session(store, session_id).load()
    await session.login("bob")
    total = await session.increment("n")
    assert (await open_session(store, session_id).load())["n"] == 41
    assert total == 1
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == {"n": 1}


async def test_a_lifetime_that_is_shortened_after_login_is_kept(store: SessionStore) -> None:
    """`login()` and then `set_lifetime(...)` in one request: the session ends as early as asked."""
    session = await open_session(store).load()
    await session.login("ann")
    session.set_lifetime(idle=60, absolute=120)
    await session.save()
    (info,) = await store.users.list("ann")
    # It began with the login, and its idle time with the commit, a moment later: not 30 minutes.
    assert timedelta(seconds=59) < info.expires_at - info.created_at < timedelta(seconds=120)
    change = cookie_change(session)
    assert change is not None
    assert change.max_age_ms == 120_000


async def test_revoke_others_sees_a_login_that_is_confirmed_meanwhile(store: SessionStore) -> None:
    """An earlier, slower login is confirmed while revoke_others ends the others: it ends too."""
    slow = await open_session(store).load()
    await slow.login("ann")
    await asyncio.sleep(0.005)
    mine = await open_session(store, await log_in(store, "ann")).load()
    reached, go_on = Steps(store).pause_before("release")
    revoking = asyncio.create_task(store.users.revoke_others(mine))
    await reached.wait()
    await slow.save()
    go_on.set()
    await revoking
    assert await is_live(store, new_id(slow)) is False
    assert mine.handle is not None
    assert [info.handle for info in await store.users.list("ann")] == [mine.handle]


async def test_revoke_all_reaches_logins_of_a_clock_that_was_ahead(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """After a failover to a server whose clock is behind, logins of "the future" end as well."""
    session_id = await log_in(store, "ann")
    handle = handle_of(store, session_id)
    age_place(admin, prefix, "ann", handle, -10_000)
    await store.users.revoke_all("ann")
    assert await is_live(store, session_id) is False


async def test_evicting_a_session_that_is_being_renewed_keeps_the_limit(
    session_redis_url: str, prefix: str
) -> None:
    """A renewal between the choice of a victim and its end: still no more than the limit."""
    async with opened(session_redis_url, prefix, max_sessions_per_user=2) as store:
        ids = []
        for _ in range(2):
            ids.append(await log_in(store, "ann"))
            await asyncio.sleep(0.003)
        oldest = await open_session(store, ids[0]).load()
        oldest.renew()
        newest = await open_session(store).load()
        reached, go_on = Steps(store).pause_before("end")
        login = asyncio.create_task(newest.login("ann"))
        await reached.wait()
        await asyncio.gather(oldest.save(), return_exceptions=True)
        go_on.set()
        await login
        await newest.save()
        ids.append(new_id(newest))
        change = cookie_change(oldest)
        if change is not None and change.session_id is not None:
            ids.append(change.session_id)
        assert len(await live_among(store, ids)) <= 2
        assert await store.users.count("ann") <= 2


async def test_a_session_with_one_unreadable_field_stays_listed(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Listing skips what it can't decode, but revoke_all must still find and end it."""
    session_id = await log_in(store, "ann", good=1)
    handle = handle_of(store, session_id)
    admin.hset(f"{prefix}:{handle}", "bad", "[1,")
    await store.users.list("ann")
    assert await open_session(store, session_id).fetch("good") == {"good": 1}
    await store.users.revoke_all("ann")
    assert await open_session(store, session_id).fetch("good") == {}


@pytest.mark.parametrize(
    "member",
    [
        "1",
        "f" * 31,
        "f" * 33,
        "f" * 32
        + "\r\n$7\r\n1800000\r\n$2\r\n-1\r\n$3\r\nall"
        + "\r\n*3\r\n$3\r\nSET\r\n$6\r\nforged\r\n$1\r\nx",
    ],
    ids=["short", "a digit less", "a digit more", "a command"],
)
async def test_what_is_no_handle_in_an_index_is_a_dead_place(
    store: SessionStore, admin: Any, prefix: str, member: str
) -> None:
    """Whatever somebody writes into a user's index names a key at the most, and is pruned."""
    session_id = await log_in(store, "ann")
    admin.zadd(index_key(prefix, "ann"), {member: 1})
    assert [info.handle for info in await store.users.list("ann")] == list(
        handles_of(store, session_id)
    )
    assert await store.users.count("ann") == 1
    assert admin.zcard(index_key(prefix, "ann")) == 1
    assert not admin.exists("forged")
    assert store.stats.errors == 0


async def test_logging_in_twice_in_one_request_needs_one_place(
    session_redis_url: str, prefix: str
) -> None:
    """With a limit of one and "reject", the first staged login makes way for the second."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=1, on_limit="reject"
    ) as store:
        session = await open_session(store).load()
        await session.login("ann")
        await session.login("ann")
        await session.save()
        assert await is_live(store, new_id(session))
        assert await store.users.count("ann") == 1


async def test_a_login_without_an_agent_forgets_the_one_before(store: SessionStore) -> None:
    """Address and agent are those of the last login, also if it tells none."""
    first = open_session(
        store, None, origin=(("192.0.2.1", 1), [(b"user-agent", FIREFOX.encode())])
    )
    await (await first.load()).login("ann")
    await first.save()
    await log_in(store, "ann", new_id(first))
    (info,) = await store.users.list("ann")
    assert (info.address, info.user_agent) == (None, None)


@pytest.mark.parametrize("had", ["nothing", "a cart", "the same user", "another user"])
async def test_clearing_after_login_logs_nobody_in(
    store: SessionStore, admin: Any, prefix: str, had: str
) -> None:
    """`login()`, then `clear()` with nothing written after it: no session, no place is left."""
    session_id = {
        "nothing": None,
        "a cart": await create(store, cart=[1]),
        "the same user": await log_in(store, "ann"),
        "another user": await log_in(store, "bob"),
    }[had]
    session = await open_session(store, session_id).load()
    await session.login("ann")
    session["half"] = "logged in"
    session.clear()
    await session.save()
    await store.drain()
    change = cookie_change(session)
    assert change is None or change.session_id is None
    assert session.user_id is None
    if session_id is not None:
        assert not await is_live(store, session_id)
    for user in ("ann", "bob"):
        await store.users.revoke_all(user)
    assert set(look(admin, prefix).users.values()) <= {""}  # the others' carts


async def test_logging_in_after_clear_logs_in(store: SessionStore) -> None:
    """`clear()`, then `login()`: the user's session, and empty."""
    session = await open_session(store, await create(store, cart=[1])).load()
    session.clear()
    await session.login("ann")
    await session.save()
    (info,) = await store.users.list("ann")
    assert (info.handle, info.fields) == (session.handle, {})


async def test_dead_places_go_whenever_the_index_is_written(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A login, a renewal, a revocation: nine sessions that expired are listed no more."""

    async def renew(session_id: str) -> None:
        session = await open_session(store, session_id).load()
        session.renew()
        await session.save()

    async def log_in_again(_: str) -> None:
        await log_in(store, "ann")

    async def revoke(session_id: str) -> None:
        await store.users.revoke("ann", handle_of(store, session_id))

    for write, left in ((log_in_again, 2), (renew, 1), (revoke, 0)):
        mine = await log_in(store, "ann")
        for session_id in plant(admin, store, "ann", 8):
            admin.delete(f"{prefix}:{handle_of(store, session_id)}")
        await write(mine)
        await store.drain()
        await store.drain()
        assert admin.zcard(index_key(prefix, "ann")) == left
        await store.users.revoke_all("ann")


async def test_a_new_place_is_the_newest(session_redis_url: str, admin: Any, prefix: str) -> None:
    """After a failover to a server whose clock is behind, the oldest session still goes first."""
    async with opened(session_redis_url, prefix, max_sessions_per_user=3) as limited:
        ids = [await log_in(limited, "ann") for _ in range(3)]
        for session_id in ids:
            admin.zincrby(index_key(prefix, "ann"), 10_000, handle_of(limited, session_id))
        ids.append(await log_in(limited, "ann"))
        assert await live_among(limited, ids) == ids[1:]
        ids.append(await log_in(limited, "ann"))
        assert await live_among(limited, ids) == ids[2:]
        newest = [handle_of(limited, session_id) for session_id in reversed(ids[2:])]
        assert [info.handle for info in await limited.users.list("ann")] == newest


def plant(admin: Any, store: SessionStore, user: str, number: int) -> list[str]:
    """Sessions of a user, the earliest login first, as `login` makes them; returns their ids."""
    seconds, micros = admin.time()
    now = seconds * 1000 + micros // 1000
    lifetime = store.lifetime
    deadline = now + (lifetime.absolute_ms or 0)
    ids = [secrets.token_urlsafe(32) for _ in range(number)]
    index = index_key(store.prefix, user)
    with admin.pipeline(transaction=False) as pipe:
        for age, session_id in enumerate(reversed(ids)):
            handle = handle_of(store, session_id)
            login = now - age
            pipe.hset(
                f"{store.prefix}:{handle}",
                items=[
                    *("@v", 1, "@created", login, "@seen", login, "@deadline", deadline),
                    *("@user", user, "@auth", login),
                ],
            )
            pipe.pexpire(f"{store.prefix}:{handle}", lifetime.idle_ms)
            pipe.zadd(index, {handle: login})
        pipe.pexpireat(index, deadline)
        pipe.execute()
    return ids


# --- Any order of steps ---


@dataclass
class Known:
    """What a test knows of an id: when its login began and had a place, whether it was used up."""

    user: str
    began: int
    placed: int
    is_used_up: bool = False


class Round:
    """Browsers and administrators of two users at once, each step delayed at random."""

    def __init__(self, store: SessionStore, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.seed = seed
        self.users = [f"{seed}-ann", f"{seed}-bob"][: self.chance.choice((1, 1, 2))]
        self.ids: dict[str, Known] = {}
        #: When each revoke_all began and was done, by user.
        self.purges: list[tuple[str, int, int]] = []
        self.counted: Counter[str] = Counter()
        self._clock = 0

    def tick(self) -> int:
        """Instants of this process: smaller means earlier."""
        self._clock += 1
        return self._clock

    async def run(self) -> None:
        """A login or two, then everything at once."""
        for _ in range(self.chance.randrange(3)):
            await self.login(None)
        verbs = self.chance.choices(
            ("login", "relogin", "renew", "save", "logout", "purge", "count", "list"),
            weights=(3, 2, 3, 1, 1, 3, 1, 1),
            k=self.chance.randint(3, 6),
        )
        started = [asyncio.create_task(self.act(verb)) for verb in verbs]
        await asyncio.gather(*started)

    async def act(self, verb: str) -> None:
        known = self.chance.choice(list(self.ids)) if self.ids else None
        user = self.chance.choice(self.users)
        await asyncio.sleep(self.chance.random() * 0.004)
        self.counted[verb] += 1
        if verb == "purge":
            began = self.tick()
            await self.store.users.revoke_all(user)
            self.purges.append((user, began, self.tick()))
        elif verb == "count":
            await self.store.users.count(user)
        elif verb == "list":
            await self.store.users.list(user)
        elif verb == "login":
            await self.login(None)
        elif known is not None:
            await (self.login(known) if verb == "relogin" else self.use(verb, known))

    async def login(self, session_id: str | None) -> None:
        user = self.chance.choice(self.users)
        began = self.tick()
        session = await open_session(self.store, session_id).load()
        had_one = not session.is_new
        await session.login(user)
        placed = self.tick()
        session["n"] = began
        try:
            await session.save()
        except SessionGone:
            self.counted["gone"] += 1
            return
        self.ids[new_id(session)] = Known(user, began, placed)
        if session_id is not None and had_one:
            self.ids[session_id].is_used_up = True

    async def use(self, verb: str, session_id: str) -> None:
        known = self.ids[session_id]
        session = await open_session(self.store, session_id).load()
        if session.is_new:
            return
        if verb == "logout":
            await session.logout()
            known.is_used_up = True
            return
        session["n"] = self.tick()
        if verb == "renew":
            session.renew()
        try:
            await session.save()
        except SessionGone:
            self.counted["gone"] += 1
            return
        if verb == "renew":
            known.is_used_up = True
            self.ids[new_id(session)] = Known(known.user, known.began, known.placed)

    def wrong(self, seen: Look) -> list[str]:
        """What must not be."""
        wrong = []
        for session_id, known in self.ids.items():
            handle = handle_of(self.store, session_id)
            lives = handle in seen.users
            purges = [(began, done) for user, began, done in self.purges if user == known.user]
            if lives and any(began > known.placed for began, _ in purges):
                wrong.append(f"{handle} has survived revoke_all")
            if lives and known.is_used_up:
                wrong.append(f"{handle} is alive after its end")
            if lives and seen.users[handle] != known.user:
                wrong.append(f"{handle} belongs to {seen.users[handle]}")
            if not (lives or known.is_used_up) and all(done < known.began for _, done in purges):
                wrong.append(f"{handle} was lost")
        return [f"round {self.seed}: {line}" for line in wrong]


async def test_any_order_of_steps_keeps_every_promise(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """
    3,500 random interleavings: nothing survives a revoke_all that began after its place was
    taken, every live session is listed and has a TTL, and what was granted lives until somebody
    ends it. 25 at a time, because more keep the loop too busy to shuffle.
    """
    steps, chance = Steps(store), random.Random()

    async def on_step(_name: str, _number: int, send: Send) -> Any:
        await asyncio.sleep(chance.random() * 0.002)
        reply = await send()
        await asyncio.sleep(chance.random() * 0.002)
        return reply

    steps.on_step = on_step
    first = secrets.randbelow(10**9)
    counted: Counter[str] = Counter()
    for batch in range(140):
        rounds = [Round(store, first + 25 * batch + number) for number in range(25)]
        await asyncio.gather(*[one.run() for one in rounds])
        await store.drain()
        seen = look(admin, prefix)
        wrong = [line for one in rounds for line in one.wrong(seen)]
        assert not wrong, wrong[:5]
        assert seen.unlisted(prefix) == []
        assert seen.immortal == []
        counted.update(sum((one.counted for one in rounds), Counter()))
        admin.delete(*[f"{prefix}:{name}" for name in seen.users], *seen.places, "nothing")
    assert min(counted[verb] for verb in ("relogin", "renew", "logout", "purge", "gone")) > 100


# --- A crash after, or before, every single step ---


async def _fresh(store: SessionStore) -> Session:
    return await open_session(store).load()


async def _anonymous(store: SessionStore) -> Session:
    return await open_session(store, await create(store, n=1)).load()


async def _ann(store: SessionStore) -> Session:
    return await open_session(store, await log_in(store, "ann", n=1)).load()


async def _bob(store: SessionStore) -> Session:
    return await open_session(store, await log_in(store, "bob", n=1)).load()


async def _login(store: SessionStore, session: Session) -> None:
    await session.login("ann")
    await session.save()


async def _renew(store: SessionStore, session: Session) -> None:
    session.renew()
    await session.save()


async def _logout(store: SessionStore, session: Session) -> None:
    await session.logout()


async def _revoke_all(store: SessionStore, session: Session) -> None:
    await store.users.revoke_all("ann")


async def _revoke_others(store: SessionStore, session: Session) -> None:
    await store.users.revoke_others(session)


CRASHES = {
    "fresh login": (_fresh, _login),
    "login on an anonymous session": (_anonymous, _login),
    "login again": (_ann, _login),
    "login on another's session": (_bob, _login),
    "renew": (_ann, _renew),
    "logout": (_ann, _logout),
    "revoke_all": (_ann, _revoke_all),
    "revoke_others": (_ann, _revoke_others),
}


@pytest.mark.parametrize("what", CRASHES)
async def test_a_crash_at_any_step_leaves_nothing_unlisted(
    what: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """
    Whether the process dies or Redis is away, before or after each step: no live session is
    unlisted, no key without a TTL, nobody holds an id that is alive, and a count repairs the index.
    """
    prepare, act = CRASHES[what]
    crashed = 0
    for limit in (None, 2):
        for make, done in [
            (make, done)
            for make in (asyncio.CancelledError, lambda: SessionUnavailable("away"))
            for done in (False, True)
        ]:
            number = 0
            while True:
                number += 1
                async with opened(session_redis_url, prefix, max_sessions_per_user=limit) as store:
                    others = [await log_in(store, "ann") for _ in range(2 - (prepare is _ann))]
                    session = await prepare(store)
                    await store.drain()
                    steps = Steps(store)
                    steps.fail_at(number, make(), done=done)
                    try:
                        await act(store, session)
                    except SessionUnavailable:
                        discard(session)
                    except asyncio.CancelledError:
                        pass
                    else:
                        assert number > len(steps.names)
                        break
                    crashed += 1
                    assert cookie_change(session) is None or act is _logout
                    steps.on_step = None
                    await store.drain()
                    seen = look(admin, prefix)
                    assert seen.unlisted(prefix) == []
                    assert seen.immortal == []
                    if limit is not None:
                        assert len(await live_among(store, others)) <= limit
                    age_pending(admin, prefix)
                    for user in ("ann", "bob"):
                        live = {handle for handle, of in seen.users.items() if of == user}
                        assert await store.users.count(user) == len(live)
                        key = index_key(prefix, user)
                        assert set(look(admin, prefix).places.get(key, {})) == live
                    forget(admin, prefix)
            forget(admin, prefix)
    assert crashed >= 16


# --- Login ---


def app_of(store: SessionStore) -> SessionMiddleware:
    """`/in/ann` logs Ann in, and then does as the query says; `/` tells who is there."""

    async def enter(request: Request) -> Response:
        session = await load_session(request)
        await session.login(request.path_params["user"])
        session["greeted"] = True
        if request.query_params.get("then") == "raise":
            raise LookupError
        if request.query_params.get("then") == "pause":
            await request.app.state.go_on.wait()
        return PlainTextResponse("in", int(request.query_params.get("status", 200)))

    async def late(request: Request) -> Response:
        session = await load_session(request)

        async def body() -> AsyncIterator[str]:
            with pytest.raises(SessionTooLate):
                await session.login("ann")
            yield "too late"

        return StreamingResponse(body())

    async def tell(request: Request) -> Response:
        session = await load_session(request)
        return JSONResponse([session.user_id, dict(session)])

    async def renew(request: Request) -> Response:
        session = await load_session(request)
        session.renew()
        await asyncio.sleep(0.01)
        return PlainTextResponse("renewed")

    routes = [
        Route("/in/{user}", enter),
        Route("/late", late),
        Route("/renew", renew),
        Route("/", tell),
    ]
    app = Starlette(routes=routes)
    app.state.go_on = asyncio.Event()
    return SessionMiddleware(app, store=store, cookie=PLAIN)


def client_of(app: Any, session_id: str | None = None) -> httpx.AsyncClient:
    cookies = {} if session_id is None else {PLAIN.name: session_id}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://app", cookies=cookies)


@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann"])
async def test_login_gives_a_new_id_and_keeps_what_is_the_users(
    before: str, store: SessionStore, admin: Any, prefix: str, events: list[SessionEvent]
) -> None:
    """New id, new beginning, data kept, the old id anonymous and listed nowhere."""
    old = None
    if before == "anonymous":
        old = await create(store, cart=["sku"])
    elif before == "ann":
        old = await log_in(store, "ann", cart=["sku"])
    if old is not None:
        key = f"{prefix}:{handle_of(store, old)}"
        for name in ("@created", "@deadline", "@auth"):
            if (instant := admin.hget(key, name)) is not None:
                admin.hset(key, name, int(instant) - DAY_MS)
    events.clear()
    new = await log_in(store, "ann", old)
    assert new != old
    session = await open_session(store, new).load()
    assert dict(session) == ({} if old is None else {"cart": ["sku"]})
    assert session.user_id == "ann"
    meta = admin.hgetall(f"{prefix}:{session.handle}")
    assert meta[b"@created"] == meta[b"@auth"]
    assert int(meta[b"@deadline"]) - int(meta[b"@created"]) == 7 * DAY_MS
    assert meta[b"@idle"] == b"1800000"
    seconds, _ = admin.time()
    assert abs(int(meta[b"@created"]) - seconds * 1000) < 60_000
    assert old is None or not await is_live(store, old)
    assert [info.handle for info in await store.users.list("ann")] == [session.handle]
    assert len(look(admin, prefix).users) == 1
    assert [(e.name, e.handle) for e in events[:1]] == [("logged_in", session.handle)]


async def test_login_over_another_users_session_ends_it(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Bob's data is dropped, his session ended, and his index empty; his others live."""
    other = await log_in(store, "bob")
    old = await log_in(store, "bob", secret="bob's")
    session = await open_session(store, old).load()
    await session.login("ann")
    assert dict(session) == {}
    session["mine"] = 1
    await session.save()
    new = new_id(session)
    assert dict(await open_session(store, new).load()) == {"mine": 1}
    assert await live_among(store, [other, old, new]) == [other, new]
    seen = look(admin, prefix)
    assert list(seen.places[index_key(prefix, "bob")]) == list(handles_of(store, other))
    assert list(seen.places[index_key(prefix, "ann")]) == list(handles_of(store, new))


async def test_a_longer_lifetime_at_login_is_respected(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Remember me: TTL, deadline, Max-Age, `@idle` and the index are those of the login."""
    for old in (None, await create(store, n=1), await log_in(store, "ann")):
        session = await open_session(store, old).load()
        await session.login("ann", idle=30 * 86_400, absolute=90 * 86_400)
        await session.save()
        key = f"{prefix}:{session.handle}"
        change = cookie_change(session)
        assert change is not None
        assert change.max_age_ms == 90 * DAY_MS
        assert 29 * DAY_MS < admin.pttl(key) <= 30 * DAY_MS
        assert int(admin.hget(key, "@idle")) == 30 * DAY_MS
        await open_session(store, change.session_id).load()
        assert 29 * DAY_MS < admin.pttl(key) <= 30 * DAY_MS
        assert admin.pttl(index_key(prefix, "ann")) > 89 * DAY_MS
        normal = await log_in(store, "ann", change.session_id)
        key = f"{prefix}:{handle_of(store, normal)}"
        assert admin.pttl(key) <= 1_800_000
        assert admin.hget(key, "@idle") == b"1800000"


async def test_login_in_a_real_request(
    sessions: SessionKit, events: list[SessionEvent], admin: Any
) -> None:
    """Set-Cookie with the new id; address and agent as the server saw them, 512 bytes of it."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, on_event=events.append)
    with serve(app_of(store)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            for agent in (FIREFOX, "x" * 5_000, "\u00e9" * 600):
                headers = {"user-agent": agent.encode("latin-1").decode("latin-1")}
                raw = {"user-agent": agent.encode("latin-1")}
                old = client.cookies.get(PLAIN.name)
                response = await client.get("/in/ann", headers=raw)  # type: ignore[arg-type]
                assert response.status_code == 200
                new = client.cookies[PLAIN.name]
                assert new != old
                assert f"{PLAIN.name}={new}; " in response.headers["set-cookie"]
                assert "Max-Age=604800" in response.headers["set-cookie"]
                info = sessions.info(handle_of(store, new))
                assert info is not None
                assert (info.address, info.user_agent) == ("127.0.0.1", headers["user-agent"][:512])
                assert (await client.get("/")).json() == ["ann", {"greeted": True}]
    assert [event.name for event in events] == ["logged_in"] * 3
    assert len(sessions.keys()) == 2


async def test_what_a_session_says_about_its_login(store: SessionStore, admin: Any) -> None:
    """`user_id`, `authenticated_at`, `is_fresh` hold from the call on, and after the commit."""
    session = await open_session(store, await create(store, n=1)).load()
    assert (session.user_id, session.authenticated_at) == (None, None)
    assert session.is_fresh(60) is False
    await session.login(7)
    for _ in range(2):
        assert session.user_id == "7"
        assert session.authenticated_at is not None
        assert session.authenticated_at == session.created_at
        assert session.is_fresh(1) is True
        await session.save()
    age_place(admin, store.prefix, "7", str(session.handle), 3_600_000)
    await session.reload()
    assert session.is_fresh(3_599) is False
    assert session.is_fresh(timedelta(hours=2)) is True


@pytest.mark.parametrize("query", ["status=500", "status=503", "then=raise"])
@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann", "bob"])
async def test_a_failed_request_logs_nobody_in(
    query: str, before: str, store: SessionStore, admin: Any, prefix: str
) -> None:
    """Status 500 or an exception after login: all is as it was, and the place is given back."""
    old = None
    if before != "nobody":
        old = await (create(store, n=1) if before == "anonymous" else log_in(store, before, n=1))
    was = look(admin, prefix)
    async with client_of(app_of(store), old) as client:
        response = await client.get(f"/in/ann?{query}")
        assert response.status_code >= 500
        assert "set-cookie" not in response.headers
        await store.drain()
        assert look(admin, prefix) == was
        if old is not None:
            user = None if before == "anonymous" else before
            assert (await client.get("/")).json() == [user, {"n": 1}]


async def test_login_after_the_response_started_is_too_late(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """SessionTooLate at the call, and no place taken."""
    for session_id in (None, await create(store, n=1)):
        async with client_of(app_of(store), session_id) as client:
            assert (await client.get("/late")).text == "too late"
    assert look(admin, prefix).places == {}


@pytest.mark.parametrize("user", ["", True, False, None, b"ann", 1.5, "\ud800", ["ann"]])
async def test_an_unusable_user_id_is_refused_before_any_command(
    user: Any, store: SessionStore
) -> None:
    """SessionValueError, with nothing sent; and so in every verb of `store.users`."""
    session = await open_session(store, await create(store, n=1)).load()
    sent = Steps(store).names
    with pytest.raises(SessionValueError):
        await session.login(user)
    for verb in (store.users.list, store.users.count, store.users.revoke_all):
        with pytest.raises(SessionValueError):
            await verb(user)
    with pytest.raises(SessionValueError):
        await store.users.revoke(user, "0" * 32)
    assert sent == []
    assert session.user_id is None
    assert session.modified is False


async def test_an_unusable_user_id_is_refused_before_the_session_is_loaded(
    store: SessionStore,
) -> None:
    """A wrong call is told from a wrong user id without asking Redis for the session."""
    session = open_session(store, await create(store, n=1))
    sent = Steps(store).names
    with pytest.raises(SessionValueError):
        await session.login("")
    assert sent == []


async def test_a_planted_id_is_worth_nothing_after_login(store: SessionStore) -> None:
    """An id that was captured before the login: anonymous and empty, in 100 requests at once."""
    planted = await create(store, n=1)
    app = app_of(store)
    async with client_of(app, planted) as victim, client_of(app, planted) as thief:
        new = (await victim.get("/in/ann")).cookies[PLAIN.name]
        stolen = await asyncio.gather(*[thief.get("/") for _ in range(100)])
        assert {response.text for response in stolen} == {"[null,{}]"}
        assert not [1 for response in stolen if "set-cookie" in response.headers]
    async with client_of(app, new) as victim:
        assert (await victim.get("/")).json() == ["ann", {"n": 1, "greeted": True}]


async def test_two_renewals_of_a_login_have_one_winner(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Two requests renewing one id, 50 times: one winner, one live session, one place."""
    session_id = await log_in(store, "ann", n=1)
    for _ in range(50):
        pair = [await open_session(store, session_id).load() for _ in range(2)]
        for session in pair:
            session.renew()
        results = await asyncio.gather(*[one.save() for one in pair], return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["NoneType", "SessionGone"]
        session_id = new_id(pair[results.index(None)])
        seen = look(admin, prefix)
        handle = handle_of(store, session_id)
        assert seen.users == {handle: "ann"}
        assert [*seen.places[index_key(prefix, "ann")]] == [handle]


@pytest.mark.parametrize("before", ["nobody", "anonymous", "ann"])
async def test_a_login_that_loses_against_revoke_all(
    before: str, store: SessionStore, admin: Any, prefix: str, events: list[SessionEvent]
) -> None:
    """Revoked between place and commit: the response goes out, without a cookie; `gone`."""
    old = None
    if before != "nobody":
        old = await (create(store, n=1) if before == "anonymous" else log_in(store, before))
    app = app_of(store)
    events.clear()
    async with client_of(app, old) as client:
        waiting = asyncio.create_task(client.get("/in/ann?then=pause"))
        while not any(
            score < 0 for places in look(admin, prefix).places.values() for score in places.values()
        ):
            await asyncio.sleep(0.002)
        await store.users.revoke_all("ann")
        app.app.state.go_on.set()  # type: ignore[attr-defined]
        response = await waiting
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert "gone" in [event.name for event in events]
    assert "logged_in" not in [event.name for event in events]
    assert await store.users.count("ann") == 0
    seen = look(admin, prefix)
    assert "ann" not in seen.users.values()
    assert seen.places == {}


# --- The list of a user's sessions ---


async def test_pages_of_1200_sessions(store: SessionStore, admin: Any) -> None:
    """The latest login first, each session once, whatever the page."""
    handles = [handle_of(store, session_id) for session_id in plant(admin, store, "ann", 1_200)]
    assert await store.users.count("ann") == 1_200
    expected = handles[::-1]
    everything = await store.users.list("ann", limit=1_000)
    everything += await store.users.list("ann", offset=1_000, limit=1_000)
    assert [info.handle for info in everything] == expected
    paged = []
    for offset in range(0, 1_300, 100):
        paged += await store.users.list("ann", offset=offset)
    assert [info.handle for info in paged] == expected
    assert [info.handle for info in await store.users.list("ann", offset=7, limit=2)] == (
        expected[7:9]
    )
    assert await store.users.revoke_all("ann") == 1_200
    assert await store.users.list("ann") == []


async def test_the_session_that_asks_is_current(store: SessionStore) -> None:
    """By the session or by its handle; it alone is spared by revoke_others."""
    ids = [await log_in(store, "ann") for _ in range(3)]
    stranger = await log_in(store, "bob")
    session = await open_session(store, ids[1]).load()
    for current in (session, session.handle):
        infos = await store.users.list("ann", current=current)
        assert [info.handle for info in infos if info.current] == [session.handle]
    assert not [info for info in await store.users.list("ann") if info.current]
    assert await store.users.revoke_others(session) == 2
    assert await live_among(store, [*ids, stranger]) == [ids[1], stranger]
    with pytest.raises(SessionValueError):
        await store.users.revoke_others(await open_session(store).load())


async def test_dead_members_are_forgotten_when_read(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Hashes that went by themselves: list and count are right, and the index shrinks."""
    key = index_key(prefix, "ann")
    for reads in ("list", "count"):
        handles = [handle_of(store, one) for one in plant(admin, store, "ann", 20)]
        admin.delete(*[f"{prefix}:{handle}" for handle in handles[:15]])
        if reads == "list":
            page = await store.users.list("ann", limit=3)
            assert [info.handle for info in page] == handles[:16:-1]
            assert len(await store.users.list("ann")) == 5
        else:
            assert await store.users.count("ann") == 5
        assert admin.zcard(key) == 5
        admin.delete(*[f"{prefix}:{handle}" for handle in handles])
        assert await store.users.list("ann") == []
        assert admin.exists(key) == 0


async def test_a_handle_of_another_user_is_not_revoked(store: SessionStore) -> None:
    """False, and that session lives; also for what is no handle at all."""
    mine, yours = await log_in(store, "ann"), await log_in(store, "bob")
    handle = handle_of(store, yours)
    for wrong in (handle, "", "*", "0" * 32, mine, f"user:{handle}", "\ud800"):
        assert await store.users.revoke("ann", wrong) is False
    assert await live_among(store, [mine, yours]) == [mine, yours]
    assert await store.users.revoke("bob", handle) is True
    assert await store.users.revoke("bob", handle) is False
    assert await live_among(store, [mine, yours]) == [mine]
    assert await store.users.list("bob") == []


async def test_a_listed_handle_is_no_cookie(store: SessionStore) -> None:
    """Neither the handle nor the name of a key opens a session."""
    await log_in(store, "ann", n=1)
    (info,) = await store.users.list("ann")
    for value in (info.handle, f"{info.handle}00000000000", f"{store.prefix}:{info.handle}"):
        async with client_of(app_of(store), value) as client:
            assert (await client.get("/")).json() == [None, {}]


async def test_devices_have_labels(store: SessionStore) -> None:
    """ "Firefox on Windows", and nothing for an agent that says nothing."""
    for agent in (FIREFOX, ""):
        origin = (("192.0.2.7", 4711), [(b"user-agent", agent.encode())])
        session = await open_session(store, origin=origin).load()
        await session.login("ann")
        await session.save()
        await asyncio.sleep(0.003)
    unknown, known = await store.users.list("ann")
    assert (known.label, known.user_agent, known.address) == (
        "Firefox on Windows",
        FIREFOX,
        "192.0.2.7",
    )
    assert unknown.label in (None, "Other")


@pytest.mark.parametrize("absolute", [None, 3_600, 86_400 * 400])
async def test_the_index_lives_as_long_as_its_sessions(
    absolute: int | None, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Whatever the order of long and short logins, renewals included."""
    key = index_key(prefix, "ann")
    lifetime = Lifetime(idle=600, absolute=absolute)
    async with opened(session_redis_url, prefix, lifetime=lifetime) as store:
        ids = [await log_in(store, "ann")]
        ids.append(await log_in(store, "ann", lifetime={"idle": 60, "absolute": 60}))
        session = await open_session(store, ids[0]).load()
        session.renew()
        await session.save()
        await store.users.revoke_others(session)
        for info in await store.users.list("ann"):
            deadline = int(admin.hget(f"{prefix}:{info.handle}", "@deadline") or 0)
            # Exact to the duration of a commit: see ..._a_login_that_takes_its_time.
            assert expiry(admin, key) >= deadline - 30_000
            assert expiry(admin, key) >= info.expires_at.timestamp() * 1000
        if absolute is None:
            assert admin.pttl(key) > 365 * DAY_MS


NASTY = [
    *("1", "01", " 1", "1 ", "-1", "{a}", "a", "{}", "*", "?", "[a]", ":", "a:b", "a\nb", "\r\n"),
    *("\0", "\U0001f512", "\u00e9", "e\u0301", "ANN", "ann", "x" * 10_240, "x" * 10_241, "user"),
    *("None", "True", "../x", "'", '"', "\\", "%00", "0" * 32),
]


async def test_no_two_users_share_a_key(store: SessionStore, admin: Any, prefix: str) -> None:
    """Whatever a user id looks like, its index is prefix:user:32 hex, and its own."""
    ids = {user: await log_in(store, user) for user in NASTY}
    places = look(admin, prefix).places
    assert len(places) == len(NASTY)
    for key in places:
        assert key.startswith(f"{prefix}:user:")
        digest = key.removeprefix(f"{prefix}:user:")
        assert len(digest) == 32
        assert set(digest) <= set("0123456789abcdef")
    for number, user in enumerate(NASTY):
        (info,) = await store.users.list(user)
        assert (info.handle, info.user_id) == (handle_of(store, ids[user]), user)
        assert await store.users.revoke_all(user) == 1
        assert len(look(admin, prefix).users) == len(NASTY) - number - 1


async def test_an_int_and_its_text_are_one_user(store: SessionStore) -> None:
    """1 and "1"; and an int of a few thousand digits is only that."""
    await log_in(store, 1)
    await log_in(store, "1")
    assert await store.users.count(1) == await store.users.count("1") == 2
    assert await store.users.revoke_all(1) == 2


# --- Limits ---


async def test_50_logins_at_once_evict_down_to_the_limit(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 3: never more than 3 that can be read, and exactly 3 at the end, all listed."""
    async with (
        opened(session_redis_url, prefix, max_sessions_per_user=3) as store,
        opened(session_redis_url, prefix, max_sessions_per_user=3) as other,
    ):
        ids: list[str] = []
        chance = random.Random(3)

        async def on_step(_name: str, _number: int, send: Send) -> Any:
            await asyncio.sleep(chance.random() * 0.002)
            return await send()

        # Two app servers, so that one's steps come between another's.
        both = [Steps(store), Steps(other)]
        for steps in both:
            steps.on_step = on_step

        async def enter() -> None:
            await asyncio.sleep(chance.random() * 0.01)
            try:
                ids.append(await log_in(chance.choice((store, other)), "ann"))
            except SessionGone:  # evicted before it was finished
                return
            assert len(await live_among(store, ids)) <= 3
            assert len(await store.users.list("ann")) <= 3

        await asyncio.gather(*[enter() for _ in range(50)])
        for steps in both:
            steps.on_step = None
        assert len(await live_among(store, ids)) == 3
        assert await store.users.count("ann") == 3
        seen = look(admin, prefix)
        assert len(seen.users) == 3
        assert len(seen.places[index_key(prefix, "ann")]) == 3


async def test_no_two_places_have_the_same_time(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """2,000 logins at once: one order of age, the same for whoever makes room."""
    handles = [secrets.token_hex(16) for _ in range(2000)]
    await asyncio.gather(*[take_place(store, "ann", handle) for handle in handles])
    places = look(admin, prefix).places[index_key(prefix, "ann")]
    assert places.keys() == set(handles)
    assert len(set(places.values())) == 2000


async def test_50_logins_at_once_are_rejected_beyond_the_limit(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 3: exactly 3 succeed; the others change nothing, not even the session they had."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=3, on_limit="reject"
    ) as store:
        olds = [await create(store, n=number) for number in range(50)]
        results = await asyncio.gather(
            *[log_in(store, "ann", old) for old in olds], return_exceptions=True
        )
        assert Counter(type(result).__name__ for result in results) == {
            "str": 3,
            "SessionLimitReached": 47,
        }
        assert await store.users.count("ann") == 3
        seen = look(admin, prefix)
        assert Counter(seen.users.values()) == {"": 47, "ann": 3}
        assert len(seen.places[index_key(prefix, "ann")]) == 3
        for old, result in zip(olds, results, strict=True):
            assert await is_live(store, old) is isinstance(result, SessionLimitReached)


@pytest.mark.parametrize("on_limit", ["reject", "evict"])
async def test_only_living_sessions_count(
    on_limit: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Expired sessions make room first, so nobody is turned away or thrown out for them."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=3, on_limit=on_limit
    ) as store:
        ids = [await log_in(store, "ann") for _ in range(3)]
        admin.delete(f"{prefix}:{handle_of(store, ids[2])}")
        ids.append(await log_in(store, "ann"))
        assert await live_among(store, ids) == [*ids[:2], ids[3]]
        assert len(look(admin, prefix).places[index_key(prefix, "ann")]) == 3


@pytest.mark.parametrize("on_limit", ["reject", "evict"])
async def test_logging_in_again_on_the_only_session(
    on_limit: str, session_redis_url: str, prefix: str, admin: Any
) -> None:
    """Limit 1: a login on the session that is there replaces it; renewing does not need room."""
    async with opened(
        session_redis_url, prefix, max_sessions_per_user=1, on_limit=on_limit
    ) as store:
        session_id = await log_in(store, "ann", n=1)
        for _ in range(3):
            session_id = await log_in(store, "ann", session_id)
            session = await open_session(store, session_id).load()
            session.renew()
            await session.save()
            session_id = new_id(session)
        assert dict(await open_session(store, session_id).load()) == {"n": 1}
        assert len(look(admin, prefix).users) == 1
        if on_limit == "reject":
            with pytest.raises(SessionLimitReached):
                await log_in(store, "ann")
        else:
            newer = await log_in(store, "ann")
            assert await live_among(store, [session_id, newer]) == [newer]


async def test_eviction_takes_the_oldest_login(
    session_redis_url: str, prefix: str, admin: Any
) -> None:
    """By the time of login, not of use; also when the limit was lowered meanwhile."""
    async with opened(session_redis_url, prefix) as store:
        ids = plant(admin, store, "ann", 10)
    async with opened(session_redis_url, prefix, max_sessions_per_user=4) as store:
        await open_session(store, ids[0]).load()
        ids.append(await log_in(store, "ann"))
        assert await live_among(store, ids) == ids[-4:]
        assert await store.users.count("ann") == 4


# --- A full server, and a user with very many sessions ---


async def test_out_of_memory_everybody_can_still_be_logged_out() -> None:
    """A full Redis: logging in is refused and leaves nothing; every way of ending works."""
    with DevServer() as server, redis.Redis.from_url(server.url) as admin:
        async with opened(server.url, "app") as store:
            ids = [await log_in(store, "ann", n=1) for _ in range(6)]
            anonymous = await create(store, n=1)
            mine = await open_session(store, ids[0]).load()
            was = look(admin, "app")
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", 1)
            admin.script_flush()
            for old in (None, anonymous, ids[1]):
                with pytest.raises(SessionUnavailable):
                    await log_in(store, "ann", old)
            await store.drain()
            assert look(admin, "app") == was
            await (await open_session(store, ids[1]).load()).logout()
            assert await live_among(store, ids) == [ids[0], *ids[2:]]
            assert await store.users.revoke("ann", handle_of(store, ids[2])) is True
            assert await store.users.count("ann") == 4
            assert await store.users.revoke_others(mine) == 3
            assert await live_among(store, ids) == ids[:1]
            assert await store.users.revoke_all("ann") == 1
            assert look(admin, "app") == look_of(store, anonymous)


def look_of(store: SessionStore, anonymous: str) -> Look:
    return Look(users={handle_of(store, anonymous): ""})


async def test_10000_sessions_of_one_user(store: SessionStore, admin: Any, prefix: str) -> None:
    """A page, the count, a login and revoke_all: no step keeps the server busy for 5 ms."""
    ids = plant(admin, store, "ann", 10_000)
    slower = admin.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
    admin.config_set("slowlog-log-slower-than", 5_000)

    def held_up(of_each: int, of_pages: int) -> bool:
        slow = [entry["command"].decode() for entry in admin.slowlog_get(1000)]
        ours = [command for command in slow if prefix in command]
        pages = sum(f"{prefix}:user:" in command for command in ours)
        return pages > of_pages // 4 or len(ours) - pages > of_each // 100

    async def quickly(
        step: Callable[[], Awaitable[Any]], of_each: int = 0, of_pages: int = 0
    ) -> Any:
        # A busy machine may hold the server up for a moment, which looks the same as a command
        # that takes too long; but that would show each time, or in each of so many commands.
        for _ in range(10):
            admin.slowlog_reset()
            result = await step()
            if not held_up(of_each, of_pages):
                return result
        pytest.fail(f"a step of over 5 ms each time: {admin.slowlog_get(1)}")

    try:
        page = await quickly(lambda: store.users.list("ann", limit=100))
        newest = ids[:-101:-1]
        assert [info.handle for info in page] == [handle_of(store, one) for one in newest]
        assert len(await quickly(lambda: store.users.list("ann", offset=9_950))) == 50
        assert await quickly(lambda: store.users.count("ann"), 10_000, 20) == 10_000
        await quickly(lambda: log_in(store, "ann"))
        logins = await store.users.count("ann")
        assert await store.users.revoke("ann", page[50].handle) is True
        admin.slowlog_reset()
        assert await store.users.revoke_all("ann") == logins - 1
        assert not held_up(10_000, 40)
    finally:
        admin.config_set("slowlog-log-slower-than", slower)
    assert look(admin, prefix) == Look()


async def test_a_client_that_goes_away_does_not_stop_a_commit(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """Cancelled between place and hash of a login: it is carried through, and the id is sent."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].login("ann")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
    scope: dict[str, Any] = {"type": "http", "headers": []}
    reached, go_on = Steps(store).pause_before("create")
    async with anyio.create_task_group() as group:
        group.start_soon(middleware, scope, None, send)  # type: ignore[arg-type]
        await reached.wait()
        group.cancel_scope.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    (start,) = sent
    assert b"set-cookie" in dict(start["headers"])
    assert list(look(admin, prefix).users.values()) == ["ann"]


@pytest.mark.parametrize("how", ["cancelled", "silent"])
async def test_a_request_that_never_answers_gives_the_place_back(
    store: SessionStore, admin: Any, prefix: str, how: str
) -> None:
    """Cancelled between `login()` and the response, or an app that forgets to respond."""
    placed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].login("ann")
        placed.set()
        if how == "cancelled":
            await asyncio.Event().wait()

    middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
    scope: dict[str, Any] = {"type": "http", "headers": []}
    request = asyncio.ensure_future(middleware(scope, None, None))  # type: ignore[arg-type]
    await placed.wait()
    if how == "cancelled":
        request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await store.drain()
    assert look(admin, prefix) == Look()


async def test_two_users_in_one_request_never_share_data(store: SessionStore, admin: Any) -> None:
    """What was staged for one user is dropped when another logs in before the commit."""
    session = await open_session(store).load()
    await session.login("ann")
    session["secret"] = "of ann"
    await session.login("bob")
    await session.save()
    assert dict(await open_session(store, new_id(session)).load()) == {}

    first = await log_in(store, "ann", a=1)
    session = await open_session(store, first).load()
    await session.login("bob")
    session["b"] = "of bob"
    await session.login("ann")
    assert dict(session) == {}
    session["fresh"] = True
    await session.save()
    again = await open_session(store, new_id(session)).load()
    assert (again.user_id, dict(again)) == ("ann", {"fresh": True})
    assert not await open_session(store, first).still_valid()
    assert await store.users.count("ann") == 1
    assert await store.users.count("bob") == 1  # of the first part


@pytest.mark.parametrize("nonsense", [0, -1, 1.5, True, 1001, "5", None])
async def test_an_unusable_page_is_refused(store: SessionStore, nonsense: Any) -> None:
    """A page is 1 to 1,000 long; the sentence says so."""
    with pytest.raises(SessionValueError, match=r"limit=.*from 1 to 1000"):
        await store.users.list("ann", limit=nonsense)


async def test_a_user_id_of_thousands_of_digits_is_refused(store: SessionStore) -> None:
    """CPython would not turn it into text; we say it in our own words."""
    session = await open_session(store).load()
    with pytest.raises(SessionValueError, match="thousands of digits"):
        await session.login(10**5000)


async def test_lists_do_not_travel_with_requests(store: SessionStore, admin: Any) -> None:
    """A list, a count and revoke_all use a connection of their own."""
    for _ in range(5):
        await log_in(store, "ann")
    lane = requests_lane(store)
    before = lane.commands
    assert len(await store.users.list("ann")) == 5
    assert await store.users.count("ann") == 5
    assert await store.users.revoke_all("ann") == 5
    assert lane.commands == before


KILLED = """
import asyncio, os, signal, sys
from asgi_redis_session import SessionStore
from tests.support.internals import around_scripts, open_session, stop_pruning

url, prefix, session_id, last = sys.argv[1:]


async def main():
    store, steps = SessionStore.from_url(url, prefix=prefix), iter(range(1, 100))

    async def around(name, send):
        reply = await send()
        if next(steps) == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    around_scripts(store, around)
    stop_pruning(store)
    session = await open_session(store, session_id).load()
    await session.login("ann")
    await session.save()


asyncio.run(main())
"""


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5])
async def test_a_process_that_is_killed_between_the_steps_of_a_login(
    session_redis_url: str, store: SessionStore, admin: Any, prefix: str, last: int
) -> None:
    """
    SIGKILL after load, place, hash (in a Cluster: taken, put back) and confirmation: nothing
    unlisted, nothing without TTL.
    """
    hash_steps = 2 if is_cluster(store) else 1
    if last > 3 + hash_steps:
        return
    session_id = await create(store, cart="tea")
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, session_redis_url, prefix, session_id, str(last)],
        check=False,
        cwd=ROOT,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL
    seen = look(admin, prefix)
    assert seen.unlisted(prefix) == []
    assert seen.immortal == []
    # The anonymous session, or the one that it became; between taken and put back, none.
    became = last >= 2 + hash_steps
    assert len(seen.users) == (last < 3) + became
    assert await open_session(store, session_id).still_valid() is (last < 3)
    assert await store.users.revoke_all("ann") == became
    assert look(admin, prefix).places == {}

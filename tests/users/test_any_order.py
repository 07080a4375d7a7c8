"""Any order of steps keeps every promise about users and their sessions."""

import asyncio
import random
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from asgi_redis_session import Session, SessionGone, SessionStore

from ..support.internals import Send, handle_of, new_id, open_session
from ..support.keyspace import Look, look
from ..support.steps import Steps

pytestmark = pytest.mark.on_cluster


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
            await self.revoke_all(user)
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
        try:
            await self.log_in(session, user)
            placed = self.tick()
            session["n"] = began
            await session.save()
        except SessionGone:
            self.counted["gone"] += 1
            return
        self.ids[new_id(session)] = Known(user, began, placed)
        if session_id is not None and had_one:
            self.ids[session_id].is_used_up = True

    async def log_in(self, session: Session, user: str) -> None:
        await session.login(user)

    async def revoke_all(self, user: str) -> None:
        await self.store.users.revoke_all(user)

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


class ProvidersRound(Round):
    """The same, where a provider logs users in, and ends all sessions of its own session."""

    async def log_in(self, session: Session, user: str) -> None:
        sub = self.chance.choice([None, f"sub of {user}"])
        await session.login(user, issuer="https://id.example", sid=f"sid of {user}", sub=sub)

    async def revoke_all(self, user: str) -> None:
        await self.store.revoke_sid("https://id.example", sid=f"sid of {user}")


async def test_any_order_of_steps_keeps_every_promise(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """
    3,500 random interleavings: nothing survives a revoke_all that began after its place was
    taken, every live session is listed and has a TTL, and what was granted lives until somebody
    ends it. 25 at a time, because more keep the loop too busy to shuffle.
    """
    await shuffle(Round, 140, store, admin, prefix)


async def test_any_order_of_steps_keeps_the_promises_about_a_provider(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """1,500 of the same, with sessions of a provider, and revoke_sid."""
    await shuffle(ProvidersRound, 60, store, admin, prefix)


async def shuffle(
    kind: type[Round], batches: int, store: SessionStore, admin: Any, prefix: str
) -> None:
    steps, chance = Steps(store), random.Random()

    async def on_step(_name: str, _number: int, send: Send) -> Any:
        await asyncio.sleep(chance.random() * 0.002)
        reply = await send()
        await asyncio.sleep(chance.random() * 0.002)
        return reply

    steps.on_step = on_step
    first = secrets.randbelow(10**9)
    counted: Counter[str] = Counter()
    for batch in range(batches):
        rounds = [kind(store, first + 25 * batch + number) for number in range(25)]
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

"""What Redis holds under a prefix: live sessions, the places of users, keys without a TTL."""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from asgi_redis_session import SessionStore

from .internals import handle_of


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


def session_keys(admin: Any, prefix: str = "") -> list[bytes]:
    """Sessions and the lists of users: all keys but those that only say for a while what was."""
    pattern = f"{prefix}:*" if prefix else "*"
    found = admin.scan_iter(pattern, count=1000)
    beside = (b":ended:{", b":imported:{", b":sid:", b":sub:")
    return [key for key in found if not any(part in key for part in beside)]


def forget(admin: Any, prefix: str) -> None:
    """Delete every key, one by one: in a Cluster they live in different slots."""
    for key in list(admin.scan_iter(f"{prefix}:*", count=1000)):
        admin.delete(key)


def look(admin: Any, prefix: str) -> Look:
    seen = Look()
    keys = [key.decode() for key in session_keys(admin, prefix)]
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


def link_key(prefix: str, kind: str, issuer: str, name: str) -> str:
    """What is noted of a provider's `sid` or `sub`, or of an `actor` (whose issuer is "actor")."""
    digest = hashlib.sha256(f"{issuer}\0{name}".encode()).hexdigest()[:32]
    return f"{prefix}:{kind}:{digest}"


def expiry(admin: Any, key: str) -> int:
    """PEXPIRETIME, which Redis has since 7.0."""
    time, ttl = admin.eval("return {redis.call('TIME'), redis.call('PTTL', KEYS[1])}", 1, key)
    return int(time[0]) * 1000 + int(time[1]) // 1000 + int(ttl)


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

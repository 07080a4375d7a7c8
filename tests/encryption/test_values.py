"""Values: what Redis holds of them, and who can read them."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from asgi_redis_session import (
    Limits,
    SessionEvent,
    SessionGone,
    SessionStore,
    SessionValueError,
    Tag,
)

from ..support.documents import blocks
from ..support.internals import handle_of, key_of, new_id, open_session
from ..support.sessions import create, log_in
from .conftest import Held, Make, is_sealed, unreadable

pytestmark = pytest.mark.on_cluster

VALUES: dict[str, Any] = {
    "text": "grüße",
    "quoted": "'\"{",
    "empty": "",
    "number": 1700170017,
    "float": 1.57079632,
    "yes": True,
    "none": None,
    "list": [1, {"a": [None]}],
    "large": "x" * 5000,
}


async def test_the_documents_store_encrypts(session_redis_url: str, admin: Any) -> None:
    """As docs/encryption.md shows it."""
    (code,) = blocks("docs/encryption.md", "python")
    namespace: dict[str, Any] = {"SessionStore": SessionStore}
    exec(code.replace("redis://localhost:6379/0", session_redis_url), namespace)
    async with namespace["store"] as store:
        session_id = await create(store, card="visa", visits=1)
        raws = admin.hgetall(key_of(store, session_id))
        assert is_sealed(raws[b"card"])
        assert raws[b"visits"] == b"1"
        await open_session(store, session_id).logout()


async def test_values_come_back_and_redis_holds_none_of_them(
    sealed: SessionStore, held: Held
) -> None:
    """Each type of value, in a session that is loaded and in one that is not."""
    session_id = await create(sealed, **VALUES)
    assert dict(await open_session(sealed, session_id).load()) == VALUES
    assert await open_session(sealed, session_id).fetch(*VALUES) == VALUES
    raws = held(session_id)
    assert raws.keys() == VALUES.keys()
    assert all(is_sealed(raw) for raw in raws.values())
    for secret in ("grüße".encode(), b"1700170017", b"1.57079632", b"true", b"null", b"xxxxxxxx"):
        assert not any(secret in raw for raw in raws.values())


async def test_a_value_takes_30_bytes_more(sealed: SessionStore, held: Held) -> None:
    """A mark and a version, a nonce of 12 bytes, a tag of 16."""
    session_id = await create(sealed, a="", b="x" * 100)
    assert {name: len(raw) for name, raw in held(session_id).items()} == {"a": 30, "b": 130}


async def test_the_key_is_made_from_the_id_as_documented(sealed: SessionStore, held: Held) -> None:
    """What the document says is enough to read a value, with the id."""
    session_id = await create(sealed, card="visa")
    raw = held(session_id)["card"]
    info = b"asgi-redis-session: the values of a session, layout 1"
    key = HKDF(SHA256(), 32, None, info).derive(session_id.encode())
    place = b"\xfe\x01" + b"1" + handle_of(sealed, session_id).encode() + b"card"
    assert raw[:2] == b"\xfe\x01"
    assert AESGCM(key).decrypt(raw[2:14], raw[14:], place) == b"visa"


async def test_the_same_value_is_never_the_same_bytes(sealed: SessionStore, held: Held) -> None:
    """Each write has a nonce of its own, so that equal values can't be found."""
    session_id = await create(sealed, a="same", b="same")
    raws = held(session_id)
    session = await open_session(sealed, session_id).load()
    session["a"] = "other"
    await session.save()
    session["a"] = "same"
    await session.save()
    assert len({raws["a"], raws["b"], held(session_id)["a"]}) == 3


@pytest.mark.parametrize("verb", ["create", "save", "renew", "log in"])
async def test_a_second_commit_of_a_request_encrypts(
    sealed: SessionStore, held: Held, verb: str
) -> None:
    """Whatever the first one was, and if that has given the session another id, by that one."""
    session_id = None if verb == "create" else await create(sealed, a="old")
    session = await open_session(sealed, session_id).load()
    if verb == "renew":
        session.renew()
    elif verb == "log in":
        await session.login("ann")
    session["a"] = "new"
    await session.save()
    session_id = session_id if verb == "save" else new_id(session)
    assert session_id is not None
    session["b"] = "second"
    await session.save()
    raws = held(session_id)
    assert raws.keys() == {"a", "b"}
    assert all(is_sealed(raw) for raw in raws.values())
    assert dict(await open_session(sealed, session_id).load()) == {"a": "new", "b": "second"}


async def test_what_has_not_changed_is_not_written(sealed: SessionStore, held: Held) -> None:
    """Values are compared as they are, not as they are encrypted."""
    session_id = await create(sealed, a=[1], b=2)
    before = held(session_id)
    session = await open_session(sealed, session_id).load()
    session["a"].append(2)
    session["a"].pop()
    session["b"] = 2
    assert not session.modified
    session["c"] = 3
    await session.save()
    after = held(session_id)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda raws, other: {"a": raws["b"], "b": raws["a"]},
        lambda raws, other: {"a": other["a"]},
        lambda raws, other: {"c": raws["a"]},
        lambda raws, other: {"a": raws["a"][:-1]},
        lambda raws, other: {"a": raws["a"] + b"\0"},
        lambda raws, other: {"a": raws["a"][:1] + b"\x02" + raws["a"][2:]},
        lambda raws, other: {"a": raws["a"][:20]},
        lambda raws, other: {"a": b"\xfe"},
        lambda raws, other: {"a": raws["a"][:5] + bytes([raws["a"][5] ^ 1]) + raws["a"][6:]},
        lambda raws, other: {"a": raws["a"][:14] + bytes([raws["a"][14] ^ 1]) + raws["a"][15:]},
        lambda raws, other: {"a": b"planted"},
        lambda raws, other: {"new": b"planted"},
    ],
    ids=[
        "swapped",
        "of another session",
        "under another name",
        "shortened",
        "lengthened",
        "of another version",
        "without a tag",
        "only the mark",
        "another nonce",
        "another bit",
        "plain",
        "plain and new",
    ],
)
async def test_a_value_in_a_wrong_place_is_corrupt(
    sealed: SessionStore, held: Held, admin: Any, events: list[SessionEvent], damage: Any
) -> None:
    """Nothing of such a session is shown: it is reported, and treated as absent."""
    session_id, other = [await create(sealed, a="mine", b="other") for _ in range(2)]
    admin.hset(key_of(sealed, session_id), mapping=damage(held(session_id), held(other)))
    session = await open_session(sealed, session_id).load()
    assert dict(session) == {}
    assert session.absence is not None
    assert session.absence.kind == unreadable(sealed)
    assert [event.name for event in events if event.name == "corrupt"] == ["corrupt"]
    names = list(held(session_id))
    assert await open_session(sealed, session_id).fetch(*names) == {}


async def test_a_planted_counter_is_a_known_risk(
    sealed: SessionStore, held: Held, admin: Any
) -> None:
    """What is named in plain= is read as it is, and may be sealed from before."""
    session_id = await create(sealed, visits=1, a="mine")
    assert held(session_id)["visits"] == b"1"
    admin.hset(key_of(sealed, session_id), "visits", 99)
    assert dict(await open_session(sealed, session_id).load()) == {"visits": 99, "a": "mine"}


async def test_increment_needs_a_plain_field(sealed: SessionStore, held: Held) -> None:
    """Redis can't add to what it can't read: refused in every phase, with the cure."""
    session_id = await create(sealed, visits=1, total=1)
    fresh = await open_session(sealed).load()
    loaded = await open_session(sealed, session_id).load()
    for session in (fresh, loaded, open_session(sealed, session_id)):
        with pytest.raises(SessionValueError, match=r"transform, or SessionStore\(plain=\['total'"):
            await session.increment("total")
        assert await session.increment("visits") >= 1
    assert held(session_id)["visits"] == b"3"
    assert await loaded.transform("total", lambda total: total + 1) == 2
    assert await loaded.transform("visits", lambda visits: visits + 1) == 4


async def test_50_transforms_of_sealed_values_lose_nothing(sealed: SessionStore) -> None:
    """Each compares what Redis holds, which no other request can make again."""
    session_id = await create(sealed, cart=[])

    async def add(number: int) -> None:
        session = open_session(sealed, session_id)
        await session.transform("cart", lambda cart: [*cart, number])

    await asyncio.gather(*map(add, range(50)))
    session = await open_session(sealed, session_id).load()
    assert sorted(session["cart"]) == list(range(50))


async def test_several_transforms_of_one_request_send_one_command_each(
    sealed: SessionStore,
) -> None:
    """The request knows what it has written itself."""
    session_id = await create(sealed, n=1)
    session = await open_session(sealed, session_id).load()
    calls = []

    def add(n: int) -> int:
        calls.append(n)
        return n + 1

    for _ in range(3):
        await session.transform("n", add)
    session["n"] = 10
    await session.save()
    await session.transform("n", add)
    assert calls == [1, 2, 3, 10]


async def test_take_gives_it_to_one(sealed: SessionStore, held: Held) -> None:
    """Of several callers, one gets the value; afterwards it is not there."""
    session_id = await create(sealed, state="s", n=1)
    sessions = [open_session(sealed, session_id) for _ in range(8)]
    taken = await asyncio.gather(*[session.take("state") for session in sessions])
    assert sorted(taken, key=str) == [None] * 7 + ["s"]
    assert held(session_id).keys() == {"n"}


async def test_a_value_that_was_swapped_meanwhile_is_refused(
    sealed: SessionStore, held: Held, admin: Any, events: list[SessionEvent]
) -> None:
    """By transform and by take, after the session was loaded."""
    session_id = await create(sealed, a="mine", b="other")
    first, second = [await open_session(sealed, session_id).load() for _ in range(2)]
    admin.hset(key_of(sealed, session_id), "a", held(session_id)["b"])
    with pytest.raises(SessionGone) as gone:
        await first.transform("a", lambda a: a)
    assert gone.value.absence is not None
    assert gone.value.absence.kind == "unreadable"
    assert await second.take("a", default="nothing") == "nothing"
    assert [event.name for event in events if event.name == "corrupt"] == ["corrupt"] * 2


async def test_limits_count_what_the_app_stores(store_with: Make) -> None:
    """The bytes of a value, not those of its encryption."""
    store = store_with(limits=Limits(field_bytes=100, session_bytes=200))
    session = await open_session(store).load()
    session.update(a="x" * 100, b="x" * 100)
    await session.save()
    session_id = new_id(session)
    session = await open_session(store, session_id).load()
    with pytest.raises(SessionValueError):
        session["a"] = "x" * 101
    session["c"] = "x"
    with pytest.raises(SessionValueError):
        await session.save()


async def test_an_older_secret_still_finds_it(store_with: Make) -> None:
    """The key is made from the id alone, so a new secret changes the handle and no value."""
    old, new = "a" * 20, "b" * 20
    before, after = store_with(secret=old), store_with(secret=[new, old])
    newest = store_with(secret=new)
    session_id = await create(before, card="4711")
    session = await open_session(after, session_id).load()
    assert dict(session) == {"card": "4711"}
    assert await open_session(after, session_id).fetch("card") == {"card": "4711"}
    session["n"] = 1
    session.renew()
    await session.save()
    renewed = new_id(session)
    assert dict(await open_session(newest, renewed).load()) == {"card": "4711", "n": 1}


async def test_an_indexed_field_stays_plain_with_its_shadow(store_with: Make, admin: Any) -> None:
    """Redis Search must read it."""
    store = store_with(index=[Tag("tenant")])
    session_id = await log_in(store, "ann", tenant="acme", card="4711")
    raws = admin.hgetall(key_of(store, session_id))
    assert raws[b"tenant"] == b"acme"
    assert is_sealed(raws[b"card"])
    assert [raw for name, raw in raws.items() if is_sealed(raw)] == [raws[b"card"]]


async def test_a_shorter_life_and_an_end(sealed: SessionStore, admin: Any) -> None:
    """set_lifetime, logout and tombstones look at metadata only."""
    session_id = await create(sealed, card="4711")
    session = await open_session(sealed, session_id).load()
    session.set_lifetime(idle=60)
    session["card"] = "4712"
    await session.save()
    assert admin.pttl(key_of(sealed, session_id)) <= 60_000
    assert dict(await open_session(sealed, session_id).load()) == {"card": "4712"}
    await session.logout()
    ended = await open_session(sealed, session_id).load()
    assert ended.absence is not None
    assert ended.absence.kind == "logged_out"


async def test_items_are_added_to_an_encrypted_list(sealed: SessionStore, held: Held) -> None:
    """Redis can't join what it can't read: compare-and-set, so that no item is lost either."""
    session_id = await create(sealed, n=1)
    adding = [open_session(sealed, session_id).append("seen", n, keep=9) for n in range(10)]
    await asyncio.gather(*adding)
    assert is_sealed(held(session_id)["seen"])
    assert len((await open_session(sealed, session_id).fetch("seen"))["seen"]) == 9


async def test_a_value_that_ends_is_encrypted_too(sealed: SessionStore, admin: Any) -> None:
    """It moves along with a login; when it ends stays readable to Redis, which judges it."""
    session = await open_session(sealed).load()
    session.set("otp", "123", ttl=60)
    session.set("visits", 1, ttl=60)
    await session.save()
    session_id = new_id(session)
    raws = admin.hgetall(key_of(sealed, session_id))
    assert is_sealed(raws[b"@=otp"])
    assert raws[b"@=visits"] == b"1"
    assert raws[b"@-otp"].isdigit()
    session = await open_session(sealed, session_id).load()
    assert dict(session) == {"otp": "123", "visits": 1}
    assert await open_session(sealed, session_id).fetch("otp") == {"otp": "123"}
    assert await session.transform("otp", lambda otp: otp + "4") == "1234"
    await session.login("ann")
    await session.save()
    session_id = new_id(session)
    assert is_sealed(admin.hget(key_of(sealed, session_id), "@=otp"))
    assert await open_session(sealed, session_id).increment("visits") == 2
    assert await open_session(sealed, session_id).take("otp") == "1234"
    assert await open_session(sealed, session_id).take("otp") is None

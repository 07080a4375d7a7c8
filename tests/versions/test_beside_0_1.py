"""
A rolling deployment: processes of version 0.1 and of this one serve the same browsers.

Each test runs twice, with the roles changed: *one* acts first, *other* after it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from .conftest import LIMIT, Pair, Side, given_id

pytestmark = [
    pytest.mark.on_cluster,
    pytest.mark.parametrize(("one", "other"), [("old", "new"), ("new", "old")]),
]

#: One of each kind that both versions store.
FIELDS = {
    "text": "ünïcode \x00",
    "empty": "",
    "zero": 0,
    "large": 10**40,
    "float": -0.5,
    "true": True,
    "list": [1, [], {"a": None}],
    "dict": {"": [{}]},
}


def somebody() -> str:
    return f"user {secrets.token_hex(6)}"


async def at_both(pair: Pair, session_id: str) -> dict[str, Any]:
    """What both read of a session, which must be the same."""
    old, new = [await side.ask("/read", session_id) for side in pair.sides.values()]
    assert old == new
    return dict(new)


async def listed_at_both(pair: Pair, user: str) -> list[str]:
    old, new = [await side.ask(f"/users/{user}") for side in pair.sides.values()]
    assert old == new
    return list(new)


#: Seconds that a session has left, by its handle.
TTL = Callable[[str], int]
GoOn = Callable[[], Awaitable[httpx.Response]]
GONE: dict[str, Any] = {"user": None, "fields": {}}


async def test_fields_of_one_are_read_and_changed_by_the_other(
    pair: Pair, one: str, other: str
) -> None:
    """Each kind of value comes back equal; changes, removals and single fields, too."""
    session_id = await pair[one].new_id("/write", json=FIELDS)
    assert await at_both(pair, session_id) == {"user": None, "fields": FIELDS}
    await pair[other].ask("/write", session_id, json={"text": None, "list": [2], "more": 1})
    left = {**FIELDS, "list": [2], "more": 1}
    del left["text"]
    assert await at_both(pair, session_id) == {"user": None, "fields": left}
    assert await pair[one].ask("/fetch?names=list,text,more", session_id) == {
        "list": [2],
        "more": 1,
    }


async def test_fields_of_both_are_kept(pair: Pair, one: str, other: str) -> None:
    """Both have loaded the session before either commits: each writes only what it changed."""
    session_id = await pair[one].new_id("/write", json={"n": 0, "gone": 1})
    go_on = await paused(pair[other], "/write", session_id, json={"by other": 1, "gone": None})
    await pair[one].ask("/write", session_id, json={"by one": 1})
    await go_on()
    fields = (await at_both(pair, session_id))["fields"]
    assert fields == {"n": 0, "by one": 1, "by other": 1}


async def test_many_commits_at_once_lose_nothing(pair: Pair, one: str, other: str) -> None:
    """100 increments and 100 fields of each version, all at the same time."""
    session_id = await pair[one].new_id("/write", json={"n": 0})
    calls = [
        call
        for name in (other, one)
        for number in range(100)
        for call in (
            pair[name].ask("/increment", session_id),
            pair[name].ask("/write", session_id, json={f"{name} {number}": number}),
        )
    ]
    await asyncio.gather(*calls)
    fields = (await at_both(pair, session_id))["fields"]
    written = {f"{name} {number}": number for name in (one, other) for number in range(100)}
    assert fields == {"n": 200, **written}


async def paused(side: Side, path: str, session_id: str | None, **more: Any) -> GoOn:
    """Start a request that stops once it has loaded its session; what returns lets it go on."""
    name = secrets.token_hex(6)
    request = asyncio.create_task(side.call(path, session_id, params={"pause": name}, **more))
    await side.ask(f"/arrived/{name}")

    async def go_on() -> httpx.Response:
        await side.ask(f"/go/{name}")
        return await request

    return go_on


async def test_a_login_at_one_holds_at_the_other(pair: Pair, one: str, other: str) -> None:
    """The data comes along, the old id is dead for both, and both list the session."""
    user = somebody()
    anonymous = await pair[other].new_id("/write", json={"cart": ["tea"]})
    logged_in = await pair[one].new_id(f"/login/{user}", anonymous)
    assert await at_both(pair, logged_in) == {"user": user, "fields": {"cart": ["tea"]}}
    assert await at_both(pair, anonymous) == GONE
    assert len(await listed_at_both(pair, user)) == 1
    again = await pair[other].new_id(f"/login/{user}", logged_in)
    assert await at_both(pair, again) == {"user": user, "fields": {"cart": ["tea"]}}
    assert await at_both(pair, logged_in) == GONE
    assert len(await listed_at_both(pair, user)) == 1


async def test_a_straggler_beside_a_login(pair: Pair, one: str, other: str) -> None:
    """
    A request with the old id, during and after a login at the other version, changes nothing of it.

    Ours sends no cookie that would replace the login's. Version 0.1 leaves no tombstone and reads
    none, so where it logs in or answers the straggler, a write makes a session, as it always did.
    """
    user = somebody()
    anonymous = await pair[one].new_id("/write", json={"cart": 1})
    go_on = await paused(pair[other], "/write", anonymous, json={"flash": "during"})
    logged_in = await pair[one].new_id(f"/login/{user}", anonymous)
    during = given_id(await go_on())
    after = given_id(await pair[other].call("/write", anonymous, json={"flash": "after"}))
    assert await at_both(pair, logged_in) == {"user": user, "fields": {"cart": 1}}
    assert len(await listed_at_both(pair, user)) == 1
    if one == "new":
        # Answered by version 0.1: its new sessions are anonymous, and the login is untouched.
        assert {(await at_both(pair, made))["user"] for made in (during, after) if made} <= {None}
    else:
        # Logged in by version 0.1: nothing says that the id was replaced.
        assert not during or (await at_both(pair, during))["user"] is None
        assert after
        assert await at_both(pair, after) == {
            "user": None,
            "fields": {"flash": "after"},
        }
    straggler = await pair["new"].call("/write", anonymous, json={"flash": "at ours"})
    assert (given_id(straggler) is None) == (one == "new")


@pytest.mark.parametrize("verb", ["/renew", "/login/eve"])
async def test_an_id_that_one_replaced_is_dead_at_the_other(
    pair: Pair, one: str, other: str, verb: str
) -> None:
    """Renewal and another user's login, while the other one holds the session loaded."""
    user = somebody()
    verb = verb.replace("eve", somebody())
    first = await pair[other].new_id(f"/login/{user}", json={})
    await pair[other].ask("/write", first, json={"mine": 1})
    go_on = await paused(pair[other], "/write", first, json={"late": 1})
    second = await pair[one].new_id(verb, first)
    await go_on()
    assert await at_both(pair, first) == GONE
    moved = await at_both(pair, second)
    assert "late" not in moved["fields"]
    if verb == "/renew":
        assert moved == {"user": user, "fields": {"mine": 1}}
        assert len(await listed_at_both(pair, user)) == 1
    else:
        assert moved == {"user": verb.removeprefix("/login/"), "fields": {}}
        assert await listed_at_both(pair, user) == []
        assert len(await listed_at_both(pair, moved["user"])) == 1


async def test_a_logout_at_one_is_one_at_the_other(pair: Pair, one: str, other: str) -> None:
    """Also for a request that has loaded the session before: nothing is recreated."""
    user = somebody()
    session_id = await pair[other].new_id(f"/login/{user}")
    go_on = await paused(pair[other], "/write", session_id, json={"late": 1})
    assert given_id(await pair[one].call("/logout", session_id)) == ""
    assert not given_id(await go_on())
    assert await at_both(pair, session_id) == GONE
    assert await listed_at_both(pair, user) == []
    assert [await side.ask("/still-valid", session_id) for side in pair.sides.values()] == [
        False,
        False,
    ]
    assert await pair[other].ask("/increment", session_id) in (1, "gone")


async def test_revoke_all_at_one_ends_the_logins_of_both(pair: Pair, one: str, other: str) -> None:
    """Each version counts and lists what the other has made."""
    user = somebody()
    ids = [await pair[name].new_id(f"/login/{user}") for name in (one, other)]
    assert len(await listed_at_both(pair, user)) == 2
    go_on = await paused(pair[other], "/write", ids[1], json={"late": 1})
    assert await pair[one].ask(f"/revoke-all/{user}") == 2
    assert not given_id(await go_on())
    assert [await at_both(pair, session_id) for session_id in ids] == [GONE, GONE]
    assert await listed_at_both(pair, user) == []


async def test_revoke_others_at_one_spares_only_its_own(pair: Pair, one: str, other: str) -> None:
    """The sessions of the other version end."""
    user = somebody()
    mine = await pair[one].new_id(f"/login/{user}")
    others = [await pair[other].new_id(f"/login/{user}") for _ in range(2)]
    assert await pair[one].ask("/revoke-others", mine) == 2
    assert [await at_both(pair, session_id) for session_id in others] == [GONE, GONE]
    assert (await at_both(pair, mine))["user"] == user
    assert len(await listed_at_both(pair, user)) == 1


async def test_both_keep_to_one_limit(pair: Pair, one: str, other: str) -> None:
    """The oldest login goes, whichever version it came from; also where many come at once."""
    user = somebody()
    ids = [await pair[name].new_id(f"/login/{user}") for name in [one, other] * LIMIT]
    assert len(await listed_at_both(pair, user)) == LIMIT
    users = [(await at_both(pair, session_id))["user"] for session_id in ids]
    assert users == [None] * LIMIT + [user] * LIMIT
    await asyncio.gather(*[pair[name].call(f"/login/{user}") for name in [one, other] * 10])
    assert len(await listed_at_both(pair, user)) == LIMIT


async def test_what_one_shortens_the_other_does_not_lengthen(
    pair: Pair, one: str, other: str, ttl: TTL
) -> None:
    """A shorter idle time holds for each use at either, and for a commit that had loaded before."""
    user = somebody()
    session_id = await pair[other].new_id(f"/login/{user}")
    (handle,) = await listed_at_both(pair, user)
    assert ttl(handle) > 1000
    go_on = await paused(pair[other], "/write", session_id, json={"late": 1})
    await pair[one].ask("/shorten/60", session_id)
    await go_on()
    assert 0 < ttl(handle) <= 60
    for name in (one, other):
        await pair[name].ask("/read", session_id)
        await pair[name].ask("/write", session_id, json={name: 1})
        assert 0 < ttl(handle) <= 60
    renewed = await pair[other].new_id("/renew", session_id)
    await pair[one].ask("/read", renewed)
    (handle,) = await listed_at_both(pair, user)
    assert 0 < ttl(handle) <= 60


@pytest.mark.parametrize("ends", [False, True])
async def test_fields_with_a_ttl_are_hidden_from_version_0_1_and_kept(
    pair: Pair, one: str, other: str, admin: Any, shared_prefix: str, *, ends: bool
) -> None:
    """It neither shows them, before or after their end, nor loses them when it writes or moves."""
    user, code = somebody(), {"otp": "123"}
    session_id = await pair["new"].new_id(f"/login/{user}")
    await pair["new"].ask("/write-for-an-hour", session_id, json=code)
    if ends:
        (handle,) = await listed_at_both(pair, user)
        assert admin.hset(f"{shared_prefix}:{handle}", "@-otp", 1) == 0
    seen = {"old": {}, "new": {} if ends else code}
    for step in ("/write", "/renew", f"/login/{user}"):
        for name in (one, other):
            more = {"json": {name: 1}} if step == "/write" else {}
            given = given_id(await pair[name].call(step, session_id, **more))
            session_id = given or session_id
            for side in ("old", "new"):
                fields = (await pair[side].ask("/read", session_id))["fields"]
                assert {key: fields[key] for key in fields if key not in ("old", "new")} == seen[
                    side
                ]
                assert await pair[side].ask("/fetch?names=otp", session_id) == seen[side]
    assert len(await listed_at_both(pair, user)) == 1
    await pair["old"].ask("/write", session_id, json={"otp": "older"})
    assert (await at_both(pair, session_id))["fields"]["otp"] == "older"


async def test_a_login_of_version_0_1_has_no_methods(pair: Pair, one: str, other: str) -> None:
    """It leaves what an earlier login has said, which no longer counts."""
    user = somebody()
    session_id = await pair["new"].new_id(f"/login-by-otp/{user}")
    for name in (one, other):
        session_id = await pair[name].new_id("/renew", session_id)
        assert (await pair["old"].ask("/read", session_id))["user"] == user
        assert await pair["new"].ask("/methods", session_id) == [True, "pwd", "otp"]
    session_id = await pair["old"].new_id(f"/login/{user}", session_id)
    assert await pair["new"].ask("/methods", session_id) == [False]
    session_id = await pair["new"].new_id(f"/login-by-otp/{user}", session_id)
    assert await pair["new"].ask("/methods", session_id) == [True, "pwd", "otp"]

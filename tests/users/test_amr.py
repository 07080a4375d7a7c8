"""How a user has logged in: `login(amr=...)`, `session.amr`, `is_fresh(amr=...)`."""

from typing import Any

import pytest

from asgi_redis_session import SessionStore, SessionValueError
from asgi_redis_session.testing import SessionKit

from ..support.internals import new_id, open_session
from ..support.sessions import create, log_in, opened

pytestmark = pytest.mark.on_cluster

METHODS = ("pwd", "otp")


async def stepped_up(store: SessionStore, session_id: str | None = None) -> str:
    """Ann's session, who has logged in by both methods; returns its id."""
    session = await open_session(store, session_id).load()
    await session.login("ann", amr=METHODS)
    await session.save()
    return new_id(session)


async def test_methods_are_shown(store: SessionStore) -> None:
    """From the call on, after the commit, in the next request, in lists, and from outside."""
    session = await open_session(store, await create(store, n=1)).load()
    assert [*session.amr] == []
    await session.login("ann", amr=["pwd", "otp"])
    assert session.amr == METHODS
    await session.save()
    assert session.amr == METHODS
    later = await open_session(store, new_id(session)).load()
    assert later.amr == METHODS
    assert later["n"] == 1
    assert dict(later) == {"n": 1}
    (listed,) = await store.users.list("ann")
    found = await store.get(str(later.handle))
    (exported,) = await store.users.export("ann")
    assert found is not None
    assert listed.amr == found.amr == exported["amr"] == METHODS


async def test_methods_of_a_first_session(store: SessionStore) -> None:
    """A login without a session before it."""
    session_id = await stepped_up(store)
    assert (await open_session(store, session_id).load()).amr == METHODS


async def test_methods_stay_through_a_renewal(store: SessionStore) -> None:
    """A new id is the same login."""
    session = await open_session(store, await stepped_up(store)).load()
    session.renew()
    await session.save()
    assert session.amr == METHODS
    assert (await open_session(store, new_id(session)).load()).amr == METHODS


async def test_the_next_login_replaces_them(store: SessionStore, admin: Any, prefix: str) -> None:
    """With others, or with none: then nothing of them is left in Redis."""
    session = await open_session(store, await stepped_up(store)).load()
    await session.login("ann", amr=["pwd"])
    assert session.amr == ("pwd",)
    await session.save()
    plain = await log_in(store, "ann", new_id(session))
    again = await open_session(store, plain).load()
    assert again.amr == ()
    assert not admin.hexists(f"{prefix}:{again.handle}", "@claims")


async def test_another_user_does_not_inherit_them(store: SessionStore) -> None:
    """Bob logs in on the session of Ann."""
    session = await open_session(store, await log_in(store, "bob", await stepped_up(store))).load()
    assert (session.user_id, session.amr) == ("bob", ())


async def test_a_login_that_failed_leaves_the_methods_of_before(store: SessionStore) -> None:
    """The request fails after `login`."""
    session_id = await stepped_up(store)
    session = await open_session(store, session_id).load()
    await session.login("ann", amr=["hwk"])
    await session.reload()
    assert session.amr == METHODS


async def test_fresh_by_certain_methods(store: SessionStore) -> None:
    """All that are asked for, in any order; the login must be recent as well."""
    session = await open_session(store, await log_in(store, "ann")).load()
    assert session.is_fresh(60)
    assert not session.is_fresh(60, amr=["otp"])
    await session.login("ann", amr=METHODS)
    for _ in range(2):
        assert session.is_fresh(60, amr=["otp"])
        assert session.is_fresh(60, amr=("otp", "pwd"))
        assert not session.is_fresh(60, amr=["otp", "hwk"])
        await session.save()
    assert not (await open_session(store).load()).is_fresh(60, amr=["otp"])


async def test_methods_of_an_earlier_login_do_not_count(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """A process that knows nothing of methods leaves them in the hash when the user logs in."""
    session_id = await stepped_up(store)
    key = f"{prefix}:{(await open_session(store, session_id).load()).handle}"
    admin.hset(key, "@auth", int(admin.hget(key, "@auth")) + 1)
    again = await open_session(store, session_id).load()
    assert again.amr == ()
    assert not again.is_fresh(60, amr=["otp"])
    (listed,) = await store.users.list("ann")
    assert listed.amr == ()


@pytest.mark.parametrize(
    "damaged",
    [
        *("", " ", "nonsense", "\xff", "{}", "{at} [1]", "{at} {", '{at} {"amr":["pwd","otp"]'),
        *('{at} {"amr":"otp"}', '{at} {"amr":[1]}', '0 {"amr":["otp"]}', '{"amr":["otp"]}'),
    ],
)
async def test_damaged_methods_count_as_none(
    store: SessionStore, admin: Any, prefix: str, damaged: str
) -> None:
    """Another program has written them: the session works, and can be renewed and logged in on."""
    session_id = await stepped_up(store)
    handle = (await open_session(store, session_id).load()).handle
    at = admin.hget(f"{prefix}:{handle}", "@auth")
    text = damaged.replace("{at}", at.decode() if isinstance(at, bytes) else at)
    admin.hset(f"{prefix}:{handle}", "@claims", text)
    session = await open_session(store, session_id).load()
    assert session.amr == ()
    session.renew()
    await session.save()
    assert await store.users.count("ann") == 1
    assert (
        await open_session(store, await stepped_up(store, new_id(session))).load()
    ).amr == METHODS


@pytest.mark.parametrize(
    ("amr", "says"),
    [
        ("otp", "is a list or tuple of authentication methods"),
        (None, "is a list or tuple"),
        ([""], "1 to 64 characters"),
        (["one time"], "without blanks"),
        (["x" * 65], "1 to 64 characters"),
        (["a"] * 17, "at most 16 methods"),
        ([1], "each a text"),
    ],
)
async def test_unusable_methods_are_refused(store: SessionStore, amr: Any, says: str) -> None:
    """One sentence, before anything happens; the same for what is asked for."""
    session = await open_session(store).load()
    with pytest.raises(SessionValueError, match=says):
        await session.login("ann", amr=amr)
    with pytest.raises(SessionValueError, match=says):
        session.is_fresh(60, amr=amr)
    assert await store.users.count("ann") == 0


async def test_a_login_with_a_link_and_methods(store: SessionStore) -> None:
    """Both are kept: the provider still ends the session, also after a renewal."""
    session = await open_session(store).load()
    issuer = "https://id.example.com"
    await session.login("ann", issuer=issuer, sid="s-1", amr=METHODS)
    await session.save()
    session.renew()
    await session.save()
    assert (await open_session(store, new_id(session)).load()).amr == METHODS
    assert await store.revoke_sid(issuer, sid="s-1") == 1


async def test_encrypted_sessions_have_methods(sessions: SessionKit) -> None:
    """They are the library's own, and stay readable."""
    async with opened(sessions.url, sessions.prefix, encryption=True) as store:
        session = await open_session(store, await stepped_up(store)).load()
        assert session.amr == METHODS
        assert (await store.users.list("ann"))[0].amr == METHODS

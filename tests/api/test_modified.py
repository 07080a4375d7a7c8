"""Flask's and Starlette's ways to say that a session has changed, and `clear()` as a logout."""

from typing import Any

import pytest

from asgi_redis_session import Session, SessionNotLoaded, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import handle_of, key_of, load_scripts, open_session
from .common import browser, create, log_in

pytestmark = pytest.mark.on_cluster

# --- modified ---


async def test_modified_can_be_set(store: SessionStore) -> None:
    """`session.modified = True` and `mark_modified()` mean the same; False takes it back."""
    session = await open_session(store, await create(store, n=1)).load()
    assert session.modified is False
    session.modified = True
    assert session.modified is True
    session.modified = False
    assert session.modified is False
    session.mark_modified()
    assert session.modified is True


async def test_modified_is_true_after_any_change(store: SessionStore) -> None:
    """Also inside a list; taking the change back makes it false again."""
    session = await open_session(store, await create(store, n=1, list=[])).load()
    session["list"].append(1)
    assert session.modified
    session["list"].pop()
    assert not session.modified
    session["n"] = 2
    session.modified = False
    assert session.modified
    await session.save()
    assert not session.modified
    session.set_lifetime(idle=60)
    assert session.modified


async def test_a_save_takes_the_mark_back(store: SessionStore) -> None:
    """What was marked has been saved, also if there was nothing to write."""
    session = await open_session(store, await create(store, n=1)).load()
    session.mark_modified()
    await session.save()
    assert session.modified is False


async def test_it_needs_no_load(store: SessionStore) -> None:
    """Starlette's `request.session` and Flask's habits come before anything is loaded."""
    session = open_session(store, await create(store, n=1))
    assert session.modified is False
    session.modified = True
    session.mark_modified()
    session.mark_accessed()
    assert session.accessed
    with pytest.raises(SessionNotLoaded):
        session["n"] = 2


async def test_saying_so_makes_no_session_and_no_write(sessions: SessionKit, admin: Any) -> None:
    """What is compared is what would be stored, whatever the app says."""
    load_scripts(admin)
    (session_id,) = sessions.cookies({"n": 1}).values()

    def say(session: Session) -> None:
        session.modified = True
        session.mark_modified()

    with sessions.count() as commands:
        async with browser(sessions.store, say, session_id=session_id, autoload=True) as client:
            assert "set-cookie" not in (await client.get("/say")).headers
        async with browser(sessions.store, say, autoload=True) as client:
            assert "set-cookie" not in (await client.get("/say")).headers
        await sessions.store.aclose()
    assert commands.scripts == ["load"]


async def test_nested_changes_are_saved_with_and_without_it(store: SessionStore) -> None:
    """The idiom is accepted, and not needed."""
    session_id = await create(store, cart=[])

    def with_it(session: Session) -> None:
        session["cart"].append("tea")
        session.modified = True

    def without_it(session: Session) -> None:
        session["cart"].append("milk")

    async with browser(store, with_it, without_it, session_id=session_id, autoload=True) as client:
        await client.get("/with_it")
        await client.get("/without_it")
    info = await store.get(handle_of(store, session_id))
    assert info is not None
    assert info.fields == {"cart": ["tea", "milk"]}


async def test_no_other_attribute_can_be_set(store: SessionStore) -> None:
    """A misspelt one is an error, not a value that is lost."""
    session: Any = await open_session(store).load()
    for name in ("permanent", "user_id", "accessed", "cart"):
        with pytest.raises(AttributeError):
            setattr(session, name, True)


# --- clear() ---


async def log_in_alone(session: Session) -> None:
    await session.login(42)


async def log_in_with_fields(session: Session) -> None:
    await session.login(42)
    session["theme"] = "dark"


def clear(session: Session) -> bool:
    session.clear()
    return session.modified


def pop(session: Session) -> None:
    session.pop("theme", None)


async def clear_and_log_in(session: Session) -> None:
    session.clear()
    await session.login(42)


def clear_and_write(session: Session) -> None:
    session.clear()
    session["n"] = 1


@pytest.mark.parametrize("begin", [log_in_alone, log_in_with_fields])
async def test_clear_logs_a_user_out(store: SessionStore, admin: Any, begin: Any) -> None:
    """Also if no field was ever written: the session is gone, and so is the cookie."""
    async with browser(store, begin, clear, autoload=True) as client:
        await client.get(f"/{begin.__name__}")
        session_id = client.cookies["session"]
        assert await store.users.count(42) == 1
        response = await client.get("/clear")
        assert response.text == "True"
        assert response.headers["set-cookie"].startswith("session=deleted; Max-Age=0;")
        assert "session" not in client.cookies
    assert not admin.exists(key_of(store, session_id))
    assert await store.users.count(42) == 0


async def test_clear_in_a_later_block_of_the_same_session(store: SessionStore) -> None:
    """Between saves, too: a login without a field, saved, then cleared and saved."""
    session = await open_session(store).load()
    await session.login(42)
    await session.save()
    assert await store.users.count(42) == 1
    session.clear()
    assert session.modified
    await session.save()
    assert session.is_new
    assert session.user_id is None
    assert await store.users.count(42) == 0


async def test_clear_of_nothing_sends_nothing(store: SessionStore) -> None:
    """A browser without a session has no cookie to forget."""
    async with browser(store, clear, autoload=True) as client:
        response = await client.get("/clear")
    assert response.text == "False"
    assert "set-cookie" not in response.headers


async def test_a_user_without_fields_stays_logged_in(store: SessionStore) -> None:
    """Removing the last field is no logout, and neither is clear() before a login or a write."""
    acts = (log_in_with_fields, pop, clear_and_log_in, clear_and_write)
    async with browser(store, *acts, autoload=True) as client:
        await client.get("/log_in_with_fields")
        for act in ("pop", "clear_and_log_in", "clear_and_write"):
            response = await client.get(f"/{act}")
            assert "deleted" not in response.headers.get("set-cookie", "")
            assert await store.users.count(42) == 1
    (info,) = await store.users.list(42)
    assert info.fields == {"n": 1}


async def test_clear_after_another_request_has_logged_out(store: SessionStore) -> None:
    """There is nothing left to end, so there is no error, and no cookie to take away."""
    session_id = await log_in(store, 42)
    session = await open_session(store, session_id).load()
    await store.users.revoke_all(42)
    session.clear()
    await session.save()
    assert session.is_new

"""Which changes are noticed, and what a commit sends of them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from asgi_redis_session import Session, SessionStore
from asgi_redis_session.testing import SessionKit

from ..support.internals import open_session
from ..support.page import Page
from ..support.values import same
from .conftest import New

pytestmark = pytest.mark.on_cluster


async def test_only_what_was_changed_is_sent(kit: SessionKit, new: New) -> None:
    """A commit carries the changed fields and no others, also after the others have been read."""
    session, _ = await new(kept="K" * 9, list=["L" * 9], changed="old", nested={"deep": ["D"]})
    with kit.count() as commands:
        assert session["kept"] == "K" * 9
        assert session["list"] == ["L" * 9]
        session["changed"] = "new"
        session["nested"]["deep"].append("more")
        await session.save()
    (line,) = commands.lines
    sent = line.split()
    assert "changed" in sent
    assert "new" in sent
    assert "nested" in sent
    for name in ("kept", "list"):
        assert name not in sent
    assert "KKK" not in line
    assert "LLL" not in line


async def test_an_untouched_list_is_not_sent(kit: SessionKit, new: New) -> None:
    """A nested value that nobody asked for is neither compared nor written."""
    session, _ = await new(cart=["sku"] * 50, n=1)
    with kit.count() as commands:
        session["n"] += 1
        await session.save()
    (line,) = commands.lines
    assert "cart" not in line
    assert "sku" not in line


async def test_a_removed_field_is_sent_by_name_only(kit: SessionKit, new: New) -> None:
    """A deletion carries the name, not the value that it had."""
    session, _ = await new(gone="SECRETVALUE", n=1)
    with kit.count() as commands:
        del session["gone"]
        await session.save()
    (line,) = commands.lines
    assert "gone" in line.split()
    assert "SECRETVALUE" not in line


def assign_again(session: Session) -> None:
    for name in list(session):
        session[name] = session[name]


def assign_copies(session: Session) -> None:
    session.update(copy.deepcopy(dict(session)))


def change_and_change_back(session: Session) -> None:
    session["text"] = "other"
    session["text"] = "text"
    session["list"].append(4)
    session["list"].pop()
    session["dict"]["b"] = 2
    del session["dict"]["b"]


def remove_and_put_back(session: Session) -> None:
    session["flag"] = session.pop("flag")
    del session["number"]
    session["number"] = 7


def add_and_remove(session: Session) -> None:
    session["new"] = [1]
    session["new"].append(2)
    del session["new"]
    assert session.pop("never", None) is None


def read_everything(session: Session) -> None:
    dict(session)
    list(session.values())
    copy.deepcopy(session["list"])
    session.setdefault("text", "other")


def use_dunders(session: Session) -> None:
    assert "text" in session
    assert session | {"x": 1} != session
    assert session == dict(session)
    session |= {"text": "text"}
    session.update()


@pytest.mark.parametrize(
    "act",
    [
        *(assign_again, assign_copies, change_and_change_back, remove_and_put_back),
        *(add_and_remove, read_everything, use_dunders),
    ],
)
async def test_what_ends_as_it_was_writes_nothing(
    kit: SessionKit, new: New, page: Page, act: Callable[[Session], None]
) -> None:
    """Assigning equal values, or changing and changing back, costs no write and no Set-Cookie."""
    session, session_id = await new(
        text="text", flag=True, number=7, list=[1, 2.5, None], dict={"a": {}}
    )
    with kit.count() as commands:
        act(session)
        assert not session.modified
        await session.save()
    assert commands.lines == []
    page.client.cookies.set("session", session_id)
    with kit.count() as commands:
        response = await page(act)
    assert commands.names == ["HGETALL"]
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (True, 1),
        (1, 1.0),
        (1.0, 1),
        (0, False),
        (0.0, -0.0),
        (-0.0, 0),
        ("1", 1),
        (None, "null"),
        (None, False),
        (True, "true"),
        ("", None),
        ([], {}),
        ([1], [True]),
        ({"a": 0}, {"a": 0.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
async def test_values_of_other_types_differ_even_if_equal(
    store: SessionStore, new: New, before: Any, after: Any
) -> None:
    """`1`, `True` and `1.0` are equal in Python, but replacing one by another is a change."""
    session, session_id = await new(v=before)
    session["v"] = after
    assert session.modified
    await session.save()
    assert same((await open_session(store, session_id).load())["v"], after)


async def test_a_field_that_is_held_is_compared_not_trusted(store: SessionStore, new: New) -> None:
    """An alias of a nested value that the app kept is noticed at every later save."""
    session, session_id = await new(cart=[1])
    held = session["cart"]
    await session.save()
    held.append(2)
    assert session.modified
    await session.save()
    held.append(3)
    await session.save()
    assert (await open_session(store, session_id).load())["cart"] == [1, 2, 3]


async def test_a_list_that_was_assigned_stays_the_apps(store: SessionStore, new: New) -> None:
    """As in a dict, the session holds the very object that was assigned, and sees its changes."""
    session, session_id = await new(n=1)
    mine: list[Any] = []
    session["a"] = mine
    session["b"] = mine
    assert session["a"] is mine
    mine.append(1)
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"n": 1, "a": [1], "b": [1]}


async def test_two_requests_share_no_values(store: SessionStore, new: New) -> None:
    """Two objects of one session hold values of their own."""
    first, session_id = await new(cart=[1])
    second = await open_session(store, session_id).load()
    first["cart"].append(2)
    assert second["cart"] == [1]


async def test_what_was_popped_no_longer_belongs_to_the_session(
    store: SessionStore, new: New
) -> None:
    """A list that was popped or replaced can change without a trace in the session."""
    session, session_id = await new(cart=[1], other=[2], n=1)
    popped, replaced = session.pop("cart"), session["other"]
    session["other"] = "text"
    popped.append({1})
    replaced.append({2})
    await session.save()
    assert dict(await open_session(store, session_id).load()) == {"other": "text", "n": 1}


async def test_containers_of_every_kind_are_watched(store: SessionStore, new: New) -> None:
    """Nested changes are noticed through each way of getting at the value."""
    ways: list[Callable[[Session], list[Any]]] = [
        lambda s: s["v"],
        lambda s: s.get("v") or [],
        lambda s: s.setdefault("v", []),
        lambda s: next(iter(s.values())),
        lambda s: dict(s.items())["v"],
        lambda s: dict(s)["v"],
        lambda s: s.copy()["v"],
        lambda s: (s | {})["v"],
        lambda s: {**s}["v"],
    ]
    for way in ways:
        session, session_id = await new(v=[1])
        way(session).append(2)
        await session.save()
        assert dict(await open_session(store, session_id).load()) == {"v": [1, 2]}

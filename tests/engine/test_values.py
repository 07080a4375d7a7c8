"""What test_codec.py says of values, through a real request and a real Redis."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_redis_session import SessionEvent, SessionValueError

from ..support.examples import examples
from ..support.keyspace import session_keys
from ..support.page import Page
from ..support.refused import REFUSED, Level, Word, accepted, refused
from ..support.values import containers, is_helpful, names, nested, same, values

in_one_loop = settings(
    deadline=None,
    max_examples=examples(200),
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture
def hashes(admin: redis.Redis, prefix: str) -> Callable[[], dict[bytes, Any]]:
    """A function that reads everything this test has in Redis."""

    def read() -> dict[bytes, Any]:
        return {key: admin.hgetall(key) for key in session_keys(admin, prefix)}

    return read


@in_one_loop
@given(fields=st.dictionaries(names, values, min_size=1, max_size=5))
async def test_values_survive_a_request(page: Page, fields: dict[str, Any]) -> None:
    """What one request assigns, the next one finds equal and with the same types."""
    assert (await page(lambda session: session.update(fields))).status_code == 200
    assert (await page(dict)).status_code == 200
    assert {name: page.seen.get(name) for name in fields}.keys() == fields.keys()
    for name, value in fields.items():
        assert same(page.seen[name], value)
    await page(lambda session: session.clear())


@in_one_loop
@given(value=values, other=values)
async def test_a_value_can_be_replaced_by_any_other(page: Page, value: Any, other: Any) -> None:
    """Assigning over a stored value replaces it also where the two are equal but differ in type."""
    await page(lambda session: session.update(v=value))
    await page(lambda session: session.update(v=other))
    await page(lambda session: session["v"])
    assert same(page.seen, other)


@in_one_loop
@given(value=values, addition=values)
async def test_nested_changes_survive_a_request(page: Page, value: Any, addition: Any) -> None:
    """What is appended to a stored list is there in the next request, with its type."""
    await page(lambda session: session.update(v=[value]))
    await page(lambda session: session["v"].append(addition))
    await page(lambda session: session["v"])
    assert same(page.seen, [value, addition])


@refused
async def test_assignment_refuses_at_once(page: Page, value: Any) -> None:
    """A value that can't be stored is refused where it is assigned, and the session lives on."""

    def act(session: Any) -> str:
        session["before"] = 1
        with pytest.raises(SessionValueError) as caught:
            session["bad"] = value
        assert "bad" not in session
        session["after"] = 2
        return str(caught.value)

    response = await page(act)
    assert response.status_code == 200
    assert page.seen.startswith("session['bad']")
    assert is_helpful(page.seen.partition(": ")[2])
    await page(dict)
    assert page.seen == {"before": 1, "after": 2}


@accepted
async def test_a_subclass_comes_back_as_its_base(page: Page, value: Any, base: Any) -> None:
    """It may be assigned, put into a stored list, and changed afterwards."""
    await page(lambda session: session.update(v=value, items=[]))
    await page(lambda session: session["items"].append(value))
    await page(dict)
    assert same(page.seen, {"v": base, "items": [base]})


async def test_a_scalar_of_a_subclass_is_its_base_at_once(page: Page) -> None:
    """A field reads the same before and after the commit."""

    def act(session: Any) -> list[Any]:
        session[Word.YES] = Level.LOW
        return [*session.items()]

    await page(act)
    assert same(page.seen[0][0], "yes")
    assert same(page.seen[0][1], 1)


async def test_changes_inside_a_subclass_are_noticed(page: Page) -> None:
    """A dict of a subclass stays the app's object for this request, as a plain one does."""

    def act(session: Any) -> None:
        session["seen"] = seen = defaultdict(list)
        seen["a"].append(1)

    await page(act)
    await page(dict)
    assert same(page.seen, {"seen": {"a": [1]}})


async def test_a_refusal_names_the_field_and_the_place(page: Page) -> None:
    """A tuple in a list is refused where it is assigned, with its place."""

    def act(session: Any) -> str:
        with pytest.raises(SessionValueError) as caught:
            session["flashes"] = [["info"], ("info", "Saved")]
        return str(caught.value)

    await page(act)
    assert page.seen.startswith("session['flashes'][1]: A value of type tuple can't be stored")


async def test_an_increment_takes_a_subclass_of_int(page: Page) -> None:
    """An IntEnum is an amount, and a StrEnum a name."""
    await page(lambda session: session.increment(Word.YES, Level.LOW))
    await page(dict)
    assert page.seen == {"yes": 1}


@refused
async def test_a_bad_value_inside_a_stored_one_fails_the_commit(
    page: Page, hashes: Callable[[], dict[bytes, Any]], value: Any
) -> None:
    """A value put into a stored list is found at the commit: 500, and nothing is written at all."""
    await page(lambda session: session.update(cart=["a"], n=1))
    before = hashes()

    def act(session: Any) -> None:
        session["n"] = 2
        session["new"] = "x"
        session["cart"].append(value)

    response = await page(act)
    assert response.status_code == 500
    assert response.text == "The session could not be saved.\n"
    assert "set-cookie" not in response.headers
    assert hashes() == before
    await page(dict)
    assert page.seen == {"cart": ["a"], "n": 1}


async def test_a_bad_value_inside_a_new_session_creates_nothing(
    page: Page, hashes: Callable[[], dict[bytes, Any]], events: list[SessionEvent]
) -> None:
    """A commit that is refused leaves no half-made session and sends no cookie."""

    def act(session: Any) -> None:
        session["cart"] = []
        session["cart"].append({1, 2})

    response = await page(act)
    assert response.status_code == 500
    assert "set-cookie" not in response.headers
    assert hashes() == {}
    assert events == []


@in_one_loop
@given(value=containers, wrong=st.sampled_from(list(REFUSED.values())))
async def test_a_bad_value_at_any_place_fails_the_commit(
    page: Page, hashes: Callable[[], dict[bytes, Any]], value: Any, wrong: Any
) -> None:
    """Wherever in a stored value something bad is put, the commit is refused as a whole."""
    await page(lambda session: session.update(v=value))
    before = hashes()

    def act(session: Any) -> None:
        spot = session["v"]
        while True:
            inner = list(spot.values()) if isinstance(spot, dict) else spot
            deeper = next((item for item in inner if isinstance(item, list | dict)), None)
            if deeper is None:
                break
            spot = deeper
        if isinstance(spot, dict):
            spot["bad"] = wrong
        else:
            spot.append(wrong)

    assert (await page(act)).status_code == 500
    assert hashes() == before


async def test_a_stored_value_beyond_todays_limits_can_still_be_read(
    page: Page, admin: redis.Redis, prefix: str
) -> None:
    """Reading is not writing: a value deeper than the limit does not fail requests that read it."""
    await page(lambda session: session.update(v=[1]))
    (key,) = session_keys(admin, prefix)
    admin.hset(key, "v", b"[" * 40 + b"]" * 40)
    for _ in range(2):
        response = await page(lambda session: session["v"])
        assert response.status_code == 200
        assert same(page.seen, nested(40))

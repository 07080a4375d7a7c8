"""What Redis returned of a session, and how changes are merged: nothing is sent here."""

from datetime import UTC, datetime

import pytest

from asgi_redis_session import Durability
from asgi_redis_session.engine.codec import StoredHash
from asgi_redis_session.engine.record import (
    Changes,
    Login,
    Metadata,
    Record,
    Span,
    instant,
    unconfirmed_ms,
)

pytestmark = pytest.mark.anywhere

SPAN = Span(1_000, 60_000)
LOGIN = Login(
    user_id="ann",
    index=b"prefix:user:ann",
    session_id="the id",
    handle="the handle",
    now_ms=5,
    span=SPAN,
    agent="Firefox",
    address="192.0.2.1",
    keeps_data=True,
)
EARLIER = Changes({"a": b"1", "b": b"1"}, 10, 20, renews=True, login=LOGIN, identifies=True)


def test_later_changes_win() -> None:
    """Fields are merged; what the later ones leave open is that of the earlier ones."""
    assert EARLIER.before(Changes()) == EARLIER
    assert Changes().before(EARLIER) == EARLIER
    assert EARLIER.before(Changes({"b": None}, 1, 2)) == Changes(
        {"a": b"1", "b": None}, 1, 2, renews=True, login=LOGIN, identifies=True
    )


@pytest.mark.parametrize("flag", ["renews", "login", "identifies"])
@pytest.mark.parametrize("is_earlier", [False, True])
def test_one_of_two_is_enough(flag: str, is_earlier: bool) -> None:
    """A renewal, a login and an identification are kept, whichever changes ask for it."""
    asks, other = Changes(**{flag: LOGIN if flag == "login" else True}), Changes()  # type: ignore[arg-type]
    merged = asks.before(other) if is_earlier else other.before(asks)
    assert merged == asks


@pytest.mark.parametrize(
    ("changes", "is_any", "shortens", "is_login"),
    [
        (Changes(), False, False, False),
        (Changes({"a": None}), True, False, False),
        (Changes(idle_ms=1), True, True, False),
        (Changes(absolute_ms=1), True, True, False),
        (Changes(renews=True), True, False, False),
        (Changes(login=LOGIN), True, False, True),
        (Changes(identifies=True), False, False, True),
    ],
)
def test_what_changes_are(changes: Changes, is_any: bool, shortens: bool, is_login: bool) -> None:
    """Whether there is something to write, a shorter lifetime, somebody who logs in."""
    assert (bool(changes), changes.shortens, changes.is_login) == (is_any, shortens, is_login)


def test_a_session_lives_as_long_as_its_changes_say() -> None:
    """Each of both lengths is the default's if the changes leave it open."""
    assert Changes().span(SPAN) == SPAN
    assert Changes(idle_ms=1).span(SPAN) == Span(1, 60_000)
    assert Changes(absolute_ms=1).span(SPAN) == Span(1_000, 1)


def test_what_is_written_can_be_read() -> None:
    """Names and values for HSET, names for HDEL, and the hash that they make."""
    changes = Changes({"a": b"1", "gone": None, "b": b"x"})
    assert changes.hset_args() == ["a", b"1", "b", b"x"]
    assert changes.hdel_args() == ["gone"]
    assert changes.stored().values == {"a": 1, "b": "x"}


def test_a_login_describes_where_it_came_from() -> None:
    """What is not known is left out."""
    assert LOGIN.described() == ["@agent", "Firefox", "@ip", "192.0.2.1"]


def test_metadata_is_parsed() -> None:
    """Each field of the hash becomes its attribute; text that is not UTF-8 is replaced."""
    raws = {
        b"@created": b"1",
        b"@deadline": b"2",
        b"@idle": b"3",
        b"@user": b"ann\xff",
        b"@auth": b"4",
        b"@seen": b"5",
        b"@agent": b"\xffirefox",
        b"@ip": b"192.0.2.1",
    }
    assert Metadata.parse(raws) == Metadata(1, 2, 3, "ann\ufffd", 4, 5, "\ufffdirefox", "192.0.2.1")
    assert Metadata.parse({}) == Metadata(0)


def test_a_record_that_was_just_written() -> None:
    """It has what the script has written: the login's user and time, the lengths of its life."""
    record = Record.begin("handle", 1_005, 5, SPAN, LOGIN)
    assert record.metadata == Metadata(5, 60_005, 1_000, "ann", 5)
    assert (record.handle, record.expires_ms, record.now_ms) == ("handle", 1_005, 5)
    assert record.stored.values == {}
    assert record.remaining_ms == 60_000
    anonymous = Record.begin("handle", 1_005, 5, Span(1_000, None), None)
    assert anonymous.metadata == Metadata(5, None, 1_000)
    assert anonymous.remaining_ms is None


def test_a_record_is_brought_up_to_date() -> None:
    """A later instant, a shorter life; a session past its deadline has a millisecond left."""
    record = Record.begin("handle", 1_005, 5, SPAN, None)
    record.extend(2_000, 1_000)
    assert (record.expires_ms, record.now_ms) == (2_000, 1_000)
    assert 1_000 <= record.current_ms < 1_000 + 60_000
    assert record.remaining_ms == 59_005
    record.shorten(7, None)
    assert record.metadata == Metadata(5, 60_005, 7)
    record.shorten(7, 900)
    assert record.metadata == Metadata(5, 900, 7)
    assert record.remaining_ms == 1


def test_an_instant_of_redis_is_aware() -> None:
    """Milliseconds since 1970, in UTC."""
    assert instant(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_internal_objects_show_no_id_and_no_value() -> None:
    """Neither does `repr` of a login nor of changes, which may end in a log or a traceback."""
    changes = Changes({"card": b"4711"}, login=LOGIN)
    for shown in (repr(LOGIN), repr(changes), f"{Record('handle', 1, 1, StoredHash())!r}"):
        assert "the id" not in shown
        assert "4711" not in shown


def test_an_unconfirmed_hash_lives_for_five_timeouts() -> None:
    """Each of its steps may take a timeout and that of the write concern; ten seconds at least."""
    assert unconfirmed_ms(0.1, None) == 10_000
    assert unconfirmed_ms(2.5, None) == 12_500
    assert unconfirmed_ms(2.5, Durability(replicas=1, timeout=1.5)) == 20_000

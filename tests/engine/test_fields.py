"""What `Fields` stages, commits and refuses, without Redis."""

from typing import Any

import pytest

from asgi_redis_session import Limits, SessionValueError
from asgi_redis_session.engine.codec import StoredHash, encode
from asgi_redis_session.engine.fields import Fields

pytestmark = pytest.mark.anywhere


def loaded(limits: Limits = Limits(), **values: Any) -> Fields:  # noqa: B008  (frozen)
    """Fields as Redis has returned them."""
    stored = {name.encode(): encode(value) for name, value in values.items()}
    return Fields(limits, {}, StoredHash(stored))


def may_have_changes(fields: Fields) -> bool:
    return bool(fields.staged or fields.live or fields.is_cleared)


def commit(fields: Fields) -> dict[str, bytes | None]:
    """Commit what is staged; returns what was sent."""
    sent = fields.collect()
    fields.begin_commit()
    fields.committed(sent)
    return sent


def test_nothing_is_staged_before_the_app_does_anything() -> None:
    """What Redis has returned is no change."""
    assert not may_have_changes(loaded())
    assert not may_have_changes(loaded(a=[1]))


@pytest.mark.parametrize("change", ["set", "remove", "get", "clear"])
def test_whatever_may_have_changed_something_shows(change: str) -> None:
    """An assignment, a removal, a list that was handed out, and a clear of an empty session."""
    fields = loaded() if change == "clear" else loaded(a=[1])
    if change == "set":
        fields.set("b", 1)
    else:
        getattr(fields, change)(*([] if change == "clear" else ["a"]))
    assert may_have_changes(fields)
    fields.discard()
    assert not may_have_changes(fields)
    assert fields.collect() == {}


@pytest.mark.parametrize("value", [1, "text", None, True])
def test_a_scalar_that_was_read_is_unchanged(value: Any) -> None:
    """Reading it hands out nothing that could be changed without notice."""
    fields = loaded(a=value)
    assert fields.get("a") == value
    assert fields.is_unchanged("a")


@pytest.mark.parametrize("value", [[1], {"k": 1}])
def test_a_list_or_dict_that_was_read_or_set_may_have_changed(value: Any) -> None:
    """The app holds it, so only a comparison can tell."""
    fields = loaded(a=value)
    assert fields.is_unchanged("a")
    fields.get("a")
    assert not fields.is_unchanged("a")
    fields = loaded()
    fields.set("a", value)
    commit(fields)
    assert not fields.is_unchanged("a")


def test_a_field_that_is_staged_is_not_unchanged() -> None:
    """Until its commit is done; then it is what Redis holds."""
    fields = loaded(a=[1])
    fields.get("a")
    fields.set("a", 2)
    assert not fields.is_unchanged("a")
    assert commit(fields) == {"a": b"2"}
    assert fields.is_unchanged("a")


def test_a_removed_field_can_be_set_to_its_old_value_again() -> None:
    """After the commit of its removal, Redis has no value that could equal the new one."""
    fields = loaded(a=1)
    fields.remove("a")
    assert commit(fields) == {"a": None}
    fields.set("a", 1)
    assert commit(fields) == {"a": b"1"}


def test_what_the_commit_has_written_is_not_written_again() -> None:
    """The same value, set while the commit was under way or after it, is in Redis already."""
    fields = loaded(a=1)
    fields.set("a", 2)
    sent = fields.collect()
    fields.begin_commit()
    fields.set("a", 2)
    assert fields.collect() == {"a": b"2"}
    fields.committed(sent)
    assert fields.collect() == {}
    fields.set("a", 2)
    assert fields.collect() == {}


def test_what_was_set_during_a_commit_comes_after_it() -> None:
    """Also the value that Redis held before that commit."""
    fields = loaded(a=1, b=1)
    fields.set("a", 2)
    sent = fields.collect()
    fields.begin_commit()
    fields.set("a", 1)
    fields.set("b", 3)
    fields.committed(sent)
    assert fields.collect() == {"a": b"1", "b": b"3"}


def test_a_commit_without_an_answer_is_staged_again_below_what_came_later() -> None:
    """Nobody knows what Redis holds, so the next commit writes all of it, old values included."""
    fields = loaded(a=1, b=1, c=1)
    fields.set("a", 2)
    fields.set("b", 2)
    sent = fields.collect()
    fields.begin_commit()
    fields.set("b", 3)
    fields.restage(sent)
    assert fields.collect() == {"a": b"2", "b": b"3"}
    fields.set("a", 1)
    fields.set("c", 2)
    fields.set("c", 1)
    assert commit(fields) == {"a": b"1", "b": b"3"}


def test_a_list_beyond_the_limits_may_be_read_but_not_changed() -> None:
    """It was stored when the limits were higher: reading it does not fail the commit."""
    fields = loaded(Limits(field_bytes=5), a=[1, 2, 3])
    value = fields.get("a")
    assert fields.collect() == {}
    value.append(4)
    with pytest.raises(SessionValueError, match="9 bytes are more than a field may hold"):
        fields.collect()


def test_a_list_beyond_the_limits_whose_commit_got_no_answer_is_refused() -> None:
    """Redis may hold something else by now, so it can't count as unchanged."""
    fields = loaded(Limits(field_bytes=5), a=[1])
    fields.get("a").append(2)
    sent = fields.collect()
    fields.begin_commit()
    fields.restage(sent)
    fields.values["a"].append(3)
    with pytest.raises(SessionValueError, match="7 bytes are more"):
        fields.collect()


@pytest.mark.parametrize("text", ["xxxx", "xxxy", "xxx"])
def test_a_session_beyond_the_limit_may_keep_its_size_or_shrink(text: str) -> None:
    """It was stored when the limit was higher."""
    fields = loaded(Limits(session_bytes=2), a="xxxx")
    fields.set("a", text)
    fields.collect()


def test_a_session_may_fill_its_limit_and_no_byte_more() -> None:
    """The bytes of all values count, names do not."""
    fields = loaded(Limits(session_bytes=6), a="xxx")
    fields.set("b", "xxx")
    assert commit(fields) == {"b": b"xxx"}
    fields.set("c", "x")
    with pytest.raises(SessionValueError, match="values take 7 bytes, more than 6"):
        fields.collect()


def test_a_refused_value_changes_nothing() -> None:
    """Neither what the app sees nor what is staged."""

    def refuse(_: Any) -> None:
        raise SessionValueError("not this one")

    fields = Fields(Limits(), {"a": refuse}, StoredHash())
    with pytest.raises(SessionValueError, match="not this one"):
        fields.set("a", 1)
    assert fields.values == {}
    assert not may_have_changes(fields)

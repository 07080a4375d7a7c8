"""What masters of a Cluster say of their slots and indexes, and what follows from it; no server."""

import pytest

from asgi_redis_session.search.shapes import count, rows_of_sessions, sessions, summed
from asgi_redis_session.search.spread import is_listed_by_all, is_whole
from asgi_redis_session.search.topology import address_in, are_all_served, are_still, view_of

pytestmark = pytest.mark.anywhere

A, B, C = (letter * 40 for letter in "abc")
HEIR = "d" * 40


def nodes(
    myself: str,
    *,
    a: str = "0-5461",
    b: str = "5462-10923",
    c: str = "10924-16383",
    role: str = "master",
) -> bytes:
    """A reply to CLUSTER NODES of one of three masters, as Redis 7.4 has sent it."""
    lines = [
        f"{HEIR} 127.0.0.1:27364@37364 slave {A} 0 1795746148762 1 connected",
        f"{A} 127.0.0.1:25074@35074,one.example.com master - 0 1795746148661 1 connected {a}",
        f"{B} 127.0.0.1:27164@37164 master - 0 1795746148661 2 connected {b}",
        f"{C} 127.0.0.1:28043@38043 master - 0 1795746148964 3 connected {c}",
    ]
    text = "".join(f"{line.strip()}\n" for line in lines)
    mine = f"{myself} 127.0.0.1:"
    before, _, after = text.partition(mine)
    address, _, rest = after.partition(" ")
    return f"{before}{mine}{address} myself,{rest.replace('master', role, 1)}".encode()


def test_a_node_says_what_it_serves() -> None:
    """Ranges, single slots, and slots on their way; without any mark each stays where it is."""
    view = view_of(nodes(A, a=f"0-99 200 300-5461 [726->-{B}] [9000-<-{C}]"))
    assert (view.node_id, view.is_master, view.epoch, view.first_slot) == (A, True, 1, 0)
    assert [*view.slots] == [*range(100), 200, *range(300, 5462)]
    assert view.moving == ((726, B), (9000, C))
    assert view.serves(200)
    assert not any(view.serves(slot) for slot in (100, 726, 9000))
    assert view_of(nodes(B)).first_slot == 5462
    assert address_in(nodes(A), B) == "127.0.0.1:27164"
    assert address_in(nodes(A), "e" * 40) == "an unknown node"


def test_the_middle_of_the_largest_range() -> None:
    """Resharding takes slots from an end, so an index is named for one in the middle."""
    middle = view_of(nodes(A, a="0-99 200 300-5461")).middle
    assert (min(middle), max(middle)) == (2622, 3139)
    assert [*view_of(nodes(A, a="7")).middle] == [7]
    assert [*view_of(nodes(A, a="")).middle] == []


@pytest.mark.parametrize(
    ("changed", "is_still", "is_served"),
    [
        ({}, True, True),
        # On its way: a mark at either end is enough.
        ({A: {"a": f"0-5461 [726->-{B}]"}}, False, True),
        ({B: {"b": f"5462-10923 [726-<-{A}]"}}, False, True),
        # Two masters say that they serve it, because one of them does not know better yet.
        ({B: {"b": "726 5462-10923"}}, False, True),
        # Nobody says so.
        ({A: {"a": "0-725 727-5461"}}, False, False),
        ({C: {"c": "10924-16382"}}, False, False),
        # It has moved, and both know.
        ({A: {"a": "0-725 727-5461"}, B: {"b": "726 5462-10923"}}, True, True),
        # A master has been replaced.
        ({A: {"role": "slave"}}, False, False),
    ],
)
def test_whether_slots_move(
    changed: dict[str, dict[str, str]], is_still: bool, is_served: bool
) -> None:
    """Answers may be added up only if each slot has one master, and none is on its way."""
    views = [view_of(nodes(one, **changed.get(one, {}))) for one in (A, B, C)]
    assert are_still(views) is is_still
    assert are_all_served(views) is is_served


def test_a_cluster_that_answers_as_a_whole() -> None:
    """
    Redis 8 lists an index on all nodes, Redis 7 on the one that made it.

    Such a Cluster of Redis 8 was not at hand: the first replies are those of its documentation.
    """
    name = "session:idx:{0}:probe:5f3a"
    assert is_listed_by_all(name, [[name.encode(), b"other"], [b"other", name.encode()]])
    assert not is_listed_by_all(name, [[name.encode()], []])
    assert not is_listed_by_all(name, [[], []])

    one = "session:idx:b9cafbf9a13a:1"
    assert is_whole([[one], [one], [one]])
    assert is_whole([[one, "session:idx:{0}:b9cafbf9a13a:1"], [one]])
    assert not is_whole([[one], [one], []])
    # Also where a slot has moved, and two masters list the same name.
    tagged = "session:idx:{0}:b9cafbf9a13a:1"
    assert not is_whole([[tagged], [tagged]])
    assert not is_whole([[tagged], ["session:idx:{12}:b9cafbf9a13a:1"]])
    assert not is_whole([[], []])


def test_rows_of_single_sessions() -> None:
    """A count, the sessions themselves, or sums by tag, of what was read of each session."""
    read = {b"a": [b"x\x1fy", b"1.5"], b"b": [b"x", b"2"]}
    assert rows_of_sessions("count", read) == [{"_n": b"2"}]
    assert rows_of_sessions("count", {}) == [{"_n": b"0"}]
    assert rows_of_sessions("groups", read) == [
        {"_w": b"x", "_n": b"3.5"},
        {"_w": b"y", "_n": b"1.5"},
    ]
    counted = {key: values[:1] for key, values in read.items()}
    assert rows_of_sessions("groups", counted) == [
        {"_w": b"x", "_n": b"2.0"},
        {"_w": b"y", "_n": b"1.0"},
    ]
    assert rows_of_sessions("sessions", {b"a": [b"5"]}) == [{"__key": b"a", "_created": b"5"}]
    assert summed([(b"x", 2.0**53 - 1), (b"x", 0)]) == [{"_w": b"x", "_n": b"9007199254740991.0"}]


def test_what_a_session_must_have() -> None:
    """The fields that a script reads are those that the steps for one server read."""
    assert count(exact=True).read == ("@v",)
    assert "@@v" in count(exact=True).steps
    assert count(exact=False).steps[0] == "GROUPBY"
    assert sessions(7).steps[-3:] == ("LIMIT", "0", "8")

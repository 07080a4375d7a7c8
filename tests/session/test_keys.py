"""`Key`: fields with a type."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, SecretStr

from asgi_redis_session import Key, Session, SessionStore, SessionValueError

from ..support.internals import handle_of, key_of, open_session
from ..support.sessions import create
from .conftest import New

pytestmark = pytest.mark.on_cluster


class Item(msgspec.Struct):
    sku: str
    count: int = 1


class Cart(msgspec.Struct):
    items: list[Item] = []
    coupon: str | None = None


@dataclass
class Address:
    city: str
    lines: list[str] = field(default_factory=list)


class Flash(TypedDict):
    text: str
    kind: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float


class Profile(BaseModel):
    name: str
    born: date | None = None
    tags: set[str] = set()


class Hidden(BaseModel):
    word: SecretStr


class Plan(Enum):
    FREE = "free"
    GOLD = "gold"


class Level(IntEnum):
    LOW = 1


@dataclass
class Order:
    """Types inside types."""

    id: UUID
    at: datetime
    total: Decimal
    plan: Plan
    buyer: Profile
    places: dict[int, tuple[Point, ...]]
    days: frozenset[date]
    blob: bytes


AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID = UUID("12345678123456781234567812345678")

#: Type, value, and what Redis holds.
VALUES: list[tuple[Any, Any, bytes]] = [
    (Cart, Cart([Item("a")]), b'{"items":[{"sku":"a","count":1}],"coupon":null}'),
    (Address, Address("Oslo", ["x"]), b'{"city":"Oslo","lines":["x"]}'),
    (Flash, {"text": "hi"}, b'{"text":"hi"}'),
    (Point, Point(1.0, 2.5), b"[1.0,2.5]"),
    (
        Profile,
        Profile(name="Ada", born=date(1815, 12, 10), tags={"a"}),
        b'{"name":"Ada","born":"1815-12-10","tags":["a"]}',
    ),
    (datetime, AT, b"'2026-01-02T03:04:05.678901Z"),
    (datetime, AT.replace(tzinfo=None, microsecond=0), b"'2026-01-02T03:04:05"),
    (datetime, AT.astimezone(timezone(timedelta(hours=2))), b"'2026-01-02T05:04:05.678901+02:00"),
    (date, date(2026, 1, 2), b"'2026-01-02"),
    (time, time(3, 4), b"'03:04:00"),
    (timedelta, timedelta(minutes=1, microseconds=5), b"PT60.000005S"),
    (UUID, ID, b"'12345678-1234-5678-1234-567812345678"),
    (Decimal, Decimal("1.50"), b"'1.50"),
    (Plan, Plan.GOLD, b"gold"),
    (Level, Level.LOW, b"1"),
    (set[str], {"b", "a"}, b'["a","b"]'),
    (frozenset[int], frozenset({2, 1}), b"[1,2]"),
    (tuple[int, str], (1, "a"), b'[1,"a"]'),
    (tuple[tuple[int, ...], ...], ((1,), ()), b"[[1],[]]"),
    (bytes, b"\x00\xff", b"AP8="),
    (bytearray, bytearray(b"ab"), b"YWI="),
    (dict[int, str], {1: "a"}, b'{"1":"a"}'),
    (dict[UUID, list[date]], {ID: [date(2026, 1, 2)]}, b'{"%s":["2026-01-02"]}' % str(ID).encode()),
    (date | None, None, b"null"),
    (date | None, date(2026, 1, 2), b"'2026-01-02"),
    (int, 2**70, b"%d" % 2**70),
    (float, 1.0, b"1.0"),
    (str, "'quoted", b"''quoted"),
    (bool, True, b"true"),
    (list[Any], [1, [None]], b"[1,[null]]"),
]


@pytest.mark.parametrize(("kind", "value", "raw"), VALUES)
async def test_every_type_comes_back_and_redis_stays_readable(
    store: SessionStore, admin: Any, kind: Any, value: Any, raw: bytes
) -> None:
    """Equal, of the same type, and as JSON or text in Redis; reading it writes nothing."""
    key = Key[Any]("v", kind)
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    session[key] = value
    assert session[key] is value
    await session.save()
    assert admin.hget(key_of(store, session_id), "v") == raw
    again = await open_session(store, session_id).load()
    assert again[key] == value
    assert type(again[key]) is type(value)
    assert again.get(key) is again[key]
    assert not again.modified
    again[key] = value
    assert not again.modified


async def test_types_inside_types_come_back(new: New) -> None:
    """A dataclass with a pydantic model in it, and keys that are no text."""
    key = Key("order", Order)
    order = Order(
        id=ID,
        at=AT,
        total=Decimal("9.90"),
        plan=Plan.FREE,
        buyer=Profile(name="Ada", tags={"b", "a"}),
        places={1: (Point(0.5, 1.0),)},
        days=frozenset({date(2026, 1, 2)}),
        blob=b"\x00",
    )
    session, _ = await new(n=1)
    session[key] = order
    await session.save()
    assert (await session.reload())[key] == order
    assert isinstance(session[key].buyer, Profile)


CART = Key("cart", Cart, default=Cart())
ADDRESS = Key("address", Address)
PROFILE = Key("profile", Profile)
TAGS = Key("tags", set[str])

NESTED: list[tuple[Key[Any], Any, Callable[[Any], object], Any]] = [
    (CART, Cart(), lambda cart: cart.items.append(Item("a")), Cart([Item("a")])),
    (
        CART,
        Cart([Item("a")]),
        lambda cart: setattr(cart.items[0], "count", 7),
        Cart([Item("a", 7)]),
    ),
    (ADDRESS, Address("Oslo"), lambda it: it.lines.append("x"), Address("Oslo", ["x"])),
    (PROFILE, Profile(name="a"), lambda it: setattr(it, "name", "b"), Profile(name="b")),
    (PROFILE, Profile(name="a"), lambda it: it.tags.add("x"), Profile(name="a", tags={"x"})),
    (TAGS, {"a"}, lambda it: it.discard("a"), set()),
]


@pytest.mark.parametrize(("key", "before", "change", "after"), NESTED)
async def test_changes_inside_are_noticed(
    store: SessionStore, key: Key[Any], before: Any, change: Callable[[Any], object], after: Any
) -> None:
    """As in lists and dicts: in what was read, and in what was assigned."""
    before = deepcopy(before)  # `change` changes it: it is the table's
    session = await open_session(store).load()
    session[key] = msgspec.convert(key.encode(before), type(before)) if key is CART else before
    await session.save()
    assert not session.modified
    change(session[key])
    assert session.modified
    assert session[key.name] == key.encode(after)
    await session.save()
    assert not session.modified
    again = await session.reload()
    assert again[key] == after
    assert again[key] is again[key]


async def test_a_default_is_shown_and_stored_when_it_changes(new: New) -> None:
    """A copy each time; without a default, as for a name."""
    session, session_id = await new(n=1)
    assert session[CART] == Cart()
    assert CART not in session
    assert not session.modified
    session[CART].items.append(Item("a"))
    assert CART in session
    assert session["cart"] == {"items": [{"sku": "a", "count": 1}], "coupon": None}
    del session[CART]
    assert CART not in session
    assert session[CART] == Cart()
    with pytest.raises(KeyError, match="address"):
        session[ADDRESS]
    assert session.get(ADDRESS) is None
    assert session.get(ADDRESS, Address("x")) == Address("x")
    with pytest.raises(KeyError):
        del session[ADDRESS]
    assert session.pop(ADDRESS, None) is None
    assert session.pop(CART) == Cart()
    with pytest.raises(KeyError):
        session.pop(ADDRESS)
    session[ADDRESS] = Address("Oslo")
    assert session.pop(ADDRESS) == Address("Oslo")
    assert ADDRESS not in session
    assert not session.modified
    assert session_id


async def test_by_name_and_by_key_are_one_field(new: New) -> None:
    """What one writes, the other reads; two keys of one name, too."""
    session, _ = await new(cart={"items": []})
    mine, other = session[CART], Key("cart", dict[str, Any])
    session["cart"] = {"items": [{"sku": "b"}]}
    assert session[CART] == Cart([Item("b")])
    assert session[CART] is not mine
    mine.items.append(Item("lost"))
    assert session[CART] == Cart([Item("b")])
    session[CART].coupon = "x"
    assert session[other]["coupon"] == "x"
    session[other]["coupon"] = "y"
    assert session[CART].coupon == "y"
    session["cart"]["coupon"] = "z"
    await session.save()
    assert (await session.reload())["cart"]["coupon"] == "z"
    session.clear()
    assert CART not in session


REFUSED: list[tuple[Key[Any], Any]] = [
    (Key("v", int), "7"),
    (Key("v", int), True),
    (Key("v", list[int]), (1, 2)),
    (Key("v", Cart), {"items": 7}),
    (Key("v", Cart), Cart([Item(7)])),  # type: ignore[arg-type]
    (Key("v", float), float("nan")),
    (Key("v", list[float]), [float("inf")]),
    (Key("v", datetime), date(2026, 1, 1)),
    (Key("v", Plan), "gold"),
    (Key("v", Hidden), Hidden(word=SecretStr("hush"))),
    (Key("v", Address), OrderedDict(city="Oslo")),
    (Key("v", Any), object()),
    (Key("v", str), "\ud800"),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
async def test_what_would_not_come_back_equal_is_refused(
    new: New, key: Key[Any], value: Any
) -> None:
    """At the assignment, in a sentence that names the field and shows no value."""
    session, _ = await new(n=1)
    with pytest.raises(SessionValueError, match=r"session\['v'\]") as refused:
        session[key] = value
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert "v" not in session
    assert not session.modified


async def test_a_change_that_does_not_fit_is_refused_at_the_commit(new: New) -> None:
    """What is in Redis stays."""
    session, session_id = await new(cart={"items": []})
    session[CART].items = "nonsense"  # type: ignore[assignment]
    with pytest.raises(SessionValueError, match="Cart"):
        await session.save()
    assert session_id


MISFITS: list[Any] = ["secret", 7, ["secret"], {"items": [{"sku": 1}]}, {"items": "secret"}, None]


@pytest.mark.parametrize("stored", MISFITS)
async def test_a_value_that_no_longer_fits_names_field_and_handle(
    store: SessionStore, stored: Any
) -> None:
    """One error, without the value; by name it can still be read; the default where asked for."""
    session_id = await create(store, cart=stored)
    handle = handle_of(store, session_id)
    session = await open_session(store, session_id).load()
    reads: list[Callable[[], object]] = [lambda: session[CART], lambda: session.get(CART)]
    for read in reads:
        with pytest.raises(SessionValueError, match=r"session\['cart'\].*Cart") as misfit:
            read()
        assert handle in str(misfit.value)
        assert "secret" not in str(misfit.value)
        assert misfit.value.__cause__ is None
    assert session["cart"] == stored
    tolerant = Key("cart", Cart, default=Cart(coupon="new"), on_misfit="default")
    assert session[tolerant] == Cart(coupon="new")
    assert not session.modified
    session[tolerant].items.append(Item("a"))
    await session.save()
    assert (await session.reload())[CART] == Cart([Item("a")], "new")


async def test_fields_of_an_earlier_type_are_upgraded(store: SessionStore) -> None:
    """On reading; the new form is stored when the value changes."""

    def upgrade(old: Any) -> Any:
        if isinstance(old, list):
            return {"items": [{"sku": sku} for sku in old]}
        return Cart(coupon="lost")

    key = Key("cart", Cart, upgrade=upgrade)
    session_id = await create(store, cart=["a", "b"])
    session = await open_session(store, session_id).load()
    assert session[key] == Cart([Item("a"), Item("b")])
    assert not session.modified
    assert session["cart"] == ["a", "b"]
    session[key].items.pop()
    await session.save()
    assert (await session.reload())["cart"] == {
        "items": [{"sku": "a", "count": 1}],
        "coupon": None,
    }
    session["cart"] = 7
    assert session[key] == Cart(coupon="lost")
    useless = Key("cart", Cart, upgrade=lambda old: old)
    with pytest.raises(SessionValueError, match="Cart"):
        session[useless]


async def test_transform_and_take_by_key(store: SessionStore) -> None:
    """Typed values in, typed values out; ten at once lose nothing."""
    session_id = await create(store, n=1)

    def add(sku: str) -> Callable[[Cart], Cart]:
        return lambda cart: Cart([*cart.items, Item(sku)])

    await asyncio.gather(
        *[open_session(store, session_id).transform(CART, add(str(n))) for n in range(10)]
    )
    session = await open_session(store, session_id).load()
    assert sorted(item.sku for item in session[CART].items) == list("0123456789")
    given = await session.transform(ADDRESS, lambda it: it, default=Address("Oslo"))
    assert given == Address("Oslo") == session[ADDRESS]
    with pytest.raises(KeyError):
        await session.transform(PROFILE, lambda it: it)
    assert await open_session(store, session_id).take(ADDRESS) == Address("Oslo")
    assert await open_session(store, session_id).take(ADDRESS) is None
    assert await open_session(store, session_id).take(ADDRESS, Address("x")) == Address("x")
    staged = await open_session(store).load()
    assert await staged.transform(CART, add("a")) == Cart([Item("a")])
    assert await staged.take(CART) == Cart([Item("a")])


async def test_a_failed_request_drops_what_typed_values_have_become(store: SessionStore) -> None:
    """And outside of requests, an exception in the block does."""
    session_id = await create(store, cart={"items": []})

    async def fail() -> None:
        async with store.edit(handle_of(store, session_id)) as session:
            session[CART].items.append(Item("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await open_session(store, session_id).fetch("cart") == {"cart": {"items": []}}
    async with store.edit(handle_of(store, session_id)) as session:
        session[CART].items.append(Item("a"))
    read: Session = await open_session(store, session_id).load()
    assert read[CART] == Cart([Item("a")])


def test_a_key_shows_its_name_and_type() -> None:
    """In logs, say; not its default."""
    assert repr(CART) == "<Key 'cart': Cart>"
    assert "list[str]" in repr(Key("x", list[str], default=["secret"]))
    assert "secret" not in repr(Key("x", list[str], default=["secret"]))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Key("", int), SessionValueError),
        (lambda: Key("@x", int), SessionValueError),
        (lambda: Key("x", 7), TypeError),
        (lambda: Key("x", None), TypeError),
        (lambda: Key("x", int | str | date), TypeError),
        (lambda: Key("x", int, default="7"), SessionValueError),
        (lambda: Key("x", int, on_misfit="default"), TypeError),
        (lambda: Key("x", int, upgrade=7), TypeError),  # type: ignore[call-overload]
    ],
)
def test_keys_that_could_never_work_are_refused(
    make: Callable[[], object], error: type[Exception]
) -> None:
    """When they are made, not at the first request."""
    with pytest.raises(error, match=r"Key|session"):
        make()

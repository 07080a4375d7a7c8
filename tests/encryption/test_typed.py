"""Values with a type, which are encrypted as what they are stored as."""

import msgspec
import pytest

from asgi_redis_session import Key, SessionStore

from ..support.internals import new_id, open_session
from .conftest import Held, is_sealed

pytestmark = pytest.mark.on_cluster


class Cart(msgspec.Struct):
    items: list[str] = []


CART = Key("cart", Cart)


async def test_a_typed_value_is_encrypted(sealed: SessionStore, held: Held) -> None:
    """Read, changed inside, transformed and taken as without encryption."""
    session = await open_session(sealed).load()
    session[CART] = Cart(["tea"])
    await session.save()
    session_id = new_id(session)
    before = held(session_id)
    assert is_sealed(before["cart"])

    session = await open_session(sealed, session_id).load()
    assert session[CART] == Cart(["tea"])
    await session.save()
    assert held(session_id) == before
    session[CART].items.append("jug")
    await session.save()
    assert is_sealed(held(session_id)["cart"])
    assert held(session_id) != before

    session = await open_session(sealed, session_id).load()
    session.renew()
    await session.save()
    session = await open_session(sealed, new_id(session)).load()
    assert session[CART] == Cart(["tea", "jug"])
    assert await session.take(CART) == Cart(["tea", "jug"])
    assert CART not in session

"""Which user ids are accepted, and what their text is."""

import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from asgi_redis_session import SessionStore, SessionValueError

from ..support.sessions import log_in


class Member(str, enum.Enum):  # noqa: UP042  (its str() is "Member.ADA")
    ADA = "ada"


class Number(enum.IntEnum):
    SEVEN = 7


IDS: dict[str, tuple[Any, str]] = {
    "UUID": (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    "str and Enum": (Member.ADA, "ada"),
    "IntEnum": (Number.SEVEN, "7"),
}


@pytest.mark.parametrize(("user_id", "text"), IDS.values(), ids=IDS.keys())
async def test_an_id_with_an_exact_text_is_accepted(
    store: SessionStore, user_id: Any, text: str
) -> None:
    """It is the same user as its text, in every verb."""
    await log_in(store, user_id)
    assert await store.users.count(text) == 1
    (info,) = await store.users.list(user_id)
    assert info.user_id == text
    assert await store.users.revoke_all(user_id) == 1


@pytest.mark.parametrize("user_id", [Decimal(7), object(), 7.0, b"7", None, True])
async def test_others_are_told_what_to_write(store: SessionStore, user_id: Any) -> None:
    """The refusal names the expression."""
    with pytest.raises(SessionValueError, match=r"use str\(user\.id\)"):
        await store.users.count(user_id)

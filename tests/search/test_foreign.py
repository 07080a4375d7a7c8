"""Another program's index, or alias, under a name that is this library's."""

from typing import Any

import pytest

from asgi_redis_session import SearchUnavailable, SessionStore

from ..support.internals import index_names

pytestmark = [pytest.mark.needs_search, pytest.mark.one_node]


def _make(admin: Any, name: str, prefix: str) -> None:
    admin.execute_command("FT.CREATE", name, "PREFIX", 1, prefix, "SCHEMA", "a", "TAG")


async def _takes_no_foreign_one(shop: SessionStore, admin: Any, name: str) -> None:
    """Each verb says whose it is; nothing is made, moved or dropped."""
    before = sorted(admin.execute_command("FT._LIST"))
    for rebuild in (False, True):
        with pytest.raises(SearchUnavailable, match="another program has made"):
            await shop.search.create_index(rebuild=rebuild)
    with pytest.raises(SearchUnavailable, match="another program has made"):
        await shop.search.status()
    with pytest.raises(SearchUnavailable):
        await shop.search.count()
    assert sorted(admin.execute_command("FT._LIST")) == before
    assert any(name.encode() == one for one in before)


async def test_an_index_that_has_the_name_of_the_alias(
    shop: SessionStore, admin: Any, prefix: str
) -> None:
    """It is not taken for the store's own, nor replaced."""
    await shop.search.drop_index()
    _make(admin, f"{prefix}:idx", "carts:")
    await _takes_no_foreign_one(shop, admin, f"{prefix}:idx")
    admin.execute_command("FT.DROPINDEX", f"{prefix}:idx")


async def test_an_alias_that_leads_elsewhere(shop: SessionStore, admin: Any, prefix: str) -> None:
    """A rebuild does not move it away from the index that it belongs to."""
    await shop.search.drop_index()
    _make(admin, f"{prefix}-carts", "carts:")
    admin.execute_command("FT.ALIASADD", f"{prefix}:idx", f"{prefix}-carts")
    await _takes_no_foreign_one(shop, admin, f"{prefix}-carts")
    admin.execute_command("FT.DROPINDEX", f"{prefix}-carts")


async def test_an_index_of_other_keys_under_our_own_name(
    shop: SessionStore, admin: Any, prefix: str
) -> None:
    """Its name is the one that we would give, but it indexes other keys."""
    (name,) = await index_names(shop)
    await shop.search.drop_index()
    _make(admin, name, "carts:")
    with pytest.raises(SearchUnavailable, match="another program has made"):
        await shop.search.create_index()
    assert await index_names(shop) == [name]
    admin.execute_command("FT.DROPINDEX", name)

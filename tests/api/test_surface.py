"""The public API is what `surface.txt` says, and nothing else shows."""

import inspect
from typing import Any

import pytest

from asgi_redis_session import SessionMiddleware, SessionStore

from ..support.internals import open_session
from .surface import MODULES, SNAPSHOT, describe, exported


async def no_app(*_: object) -> None:
    """An app that does nothing."""


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_the_public_api_is_as_recorded() -> None:
    """Names, signatures, annotations, properties and defaults: a change has to be on purpose."""
    assert describe() == SNAPSHOT.read_text(), (
        "The public API has changed. If that is intended, run `python -m tests.api.surface`, "
        "commit tests/api/surface.txt, and tell it in CHANGELOG.md."
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_exported_name_is_recorded(module: str) -> None:
    """No name of `__all__` is left out of the record."""
    text = SNAPSHOT.read_text()
    for name in exported(module):
        assert any(f"{start}{name}" in text for start in ("class ", "def ", "\n")), name


#: What an app may use of each object.
EXPECTED = {
    "SessionStore": (
        "aclose check count drain durability edit end_durability from_url get lifetime limits open "
        "prefix reporting_expired revoke revoke_sid revoke_where scan search stats users"
    ),
    "Session": (
        # a mapping
        "clear copy get items keys pop popitem set setdefault update values "
        # verbs
        "fetch increment load login logout reload renew save set_lifetime still_valid take touch "
        "append transform "
        # what is known
        "absence accessed actor amr authenticated_at created_at expires_at expires_in handle "
        "is_fresh is_new loaded mark_accessed mark_modified modified user_id"
    ),
    "Users": "count erase export list revoke revoke_all revoke_others",
    "Search": "count count_by create_index drop_index find revoke status sum_by",
    "SessionMiddleware": (
        "app autoload bind carrier cookie cross_origin key refresh store unavailable"
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
async def test_objects_show_only_what_an_app_may_use(store: SessionStore, kind: str) -> None:
    """No engine, no client and no helper is an attribute without an underscore."""
    objects: dict[str, Any] = {
        "SessionStore": store,
        "Session": open_session(store),
        "Users": store.users,
        "Search": store.search,
        "SessionMiddleware": SessionMiddleware(no_app, store=store),
    }
    assert public(objects[kind]) == set(EXPECTED[kind].split())


@pytest.mark.parametrize("kind", ["Session", "Users", "Search", "SessionStore"])
async def test_every_method_has_a_docstring(store: SessionStore, kind: str) -> None:
    """What our own classes add says what it is for."""
    objects: dict[str, Any] = {
        "SessionStore": SessionStore,
        "Session": type(open_session(store)),
        "Users": type(store.users),
        "Search": type(store.search),
    }
    ours = [one for one in objects[kind].__mro__ if one.__module__.startswith("asgi_redis_session")]
    members = {name: member for one in ours for name, member in vars(one).items()}
    for name, member in members.items():
        if not name.startswith("_") and (
            inspect.isroutine(member) or inspect.isdatadescriptor(member)
        ):
            assert inspect.getdoc(member), f"{kind}.{name}"

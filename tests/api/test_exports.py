"""What the package shows: its public names, their docstrings, and the tree of its errors."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType
from typing import Any

import pytest

import asgi_redis_session
from asgi_redis_session import SessionError, errors

pytestmark = pytest.mark.anywhere

MODULES = [
    "asgi_redis_session",
    *[
        module.name
        for module in pkgutil.walk_packages(asgi_redis_session.__path__, "asgi_redis_session.")
    ],
]


def public_parts(value: type) -> dict[str, Any]:
    """The functions and properties that a class of ours defines under a public name."""
    return {
        f"{value.__name__}.{name}": getattr(part, "__func__", part)
        for name, part in vars(value).items()
        if not name.startswith("_")
        and (inspect.isfunction(part) or isinstance(part, property | classmethod | staticmethod))
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_exported_name_exists_and_is_described(name: str) -> None:
    """Each module says what it is for, and so does all that it exports, methods included."""
    module: ModuleType = importlib.import_module(name)
    assert module.__doc__
    exported = {each: getattr(module, each) for each in getattr(module, "__all__", ())}
    for value in [*exported.values()]:
        if inspect.isclass(value):
            exported |= public_parts(value)
    described = {
        each: inspect.getdoc(value)
        for each, value in exported.items()
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)
    }
    assert [each for each, text in described.items() if not text] == []


def test_an_import_of_all_gives_the_public_names() -> None:
    """`from asgi_redis_session import *` works, and gives nothing that is somebody else's."""
    namespace: dict[str, Any] = {}
    exec("from asgi_redis_session import *", namespace)
    del namespace["__builtins__"]
    assert {"SessionMiddleware", "SessionStore", "Session", "Lifetime"} <= namespace.keys()
    for name, value in namespace.items():
        owner = getattr(value, "__module__", "asgi_redis_session")
        assert owner.startswith("asgi_redis_session"), name


def error_classes() -> set[type[BaseException]]:
    """All exceptions that errors.py defines."""
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__ == errors.__name__
    }


def test_every_error_can_be_caught_by_its_root() -> None:
    """All that errors.py defines is a SessionError, and can be imported from the package."""
    assert len(error_classes()) > 5
    for error in error_classes():
        assert issubclass(error, SessionError)
        assert getattr(asgi_redis_session, error.__name__) is error


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """The tree at the top of errors.py has each error once, under its base."""
    drawing = re.compile(r"^(?:├──|└──) (\w+) +\S.*?(?:\(also a (\w+)\))?$", re.MULTILINE)
    assert errors.__doc__ is not None
    drawn = {name: {"SessionError", also} - {""} for name, also in drawing.findall(errors.__doc__)}
    assert drawn == {
        error.__name__: {base.__name__ for base in error.__bases__}
        for error in error_classes() - {SessionError}
    }

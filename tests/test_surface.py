"""What the package shows, and how it is laid out."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import asgi_redis_session
from asgi_redis_session import SessionError, errors

pytestmark = pytest.mark.anywhere

PACKAGE = Path(asgi_redis_session.__file__).parent
MODULES = sorted(
    f"asgi_redis_session.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)])
)


@pytest.mark.parametrize("name", ["asgi_redis_session", *MODULES])
def test_what_a_module_exports_is_explained(name: str) -> None:
    """Every module has a docstring, and every name in its `__all__` exists and has one, too."""
    module: ModuleType = importlib.import_module(name)
    assert module.__doc__
    for exported in getattr(module, "__all__", ()):
        value = getattr(module, exported)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, exported


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """errors.py opens with the tree of what it defines; the root of the package exports it all."""
    assert errors.__doc__ is not None
    drawn = set(re.findall(r"Session\w+|Search\w+|Durability\w+", errors.__doc__))
    assert drawn == set(errors.__all__)
    assert drawn <= set(asgi_redis_session.__all__)
    assert all(issubclass(getattr(errors, name), SessionError) for name in drawn)


def test_no_predictable_randomness() -> None:
    """Ids come from `secrets` alone: nothing imports `random` or `uuid`."""
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (random|uuid)\b", path.read_text(), re.MULTILINE)


def test_every_redis_command_on_a_session_is_in_lua() -> None:
    """The store sends scripts and nothing else."""
    source = (PACKAGE / "store.py").read_text() + (PACKAGE / "session.py").read_text()
    assert not re.search(r'"(HSET|HGETALL|HGET|DEL|EXPIRE|PEXPIRE|HINCRBY|SET|GET|SCAN)"', source)

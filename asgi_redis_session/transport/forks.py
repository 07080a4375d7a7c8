"""What has to happen in a forked child, which must leave its parent's connections alone."""

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_concerned: "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]" = weakref.WeakKeyDictionary()


def in_child(concerned: T, action: Callable[[T], None]) -> None:
    """Call *action* with this object in each child that is forked while the object exists."""
    _concerned[concerned] = action


def _run() -> None:
    for concerned, action in list(_concerned.items()):
        action(concerned)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run)

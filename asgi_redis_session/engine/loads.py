"""load.lua as commands that are packed once: packing is the most expensive part of sending."""

from collections.abc import Sequence
from typing import Any

from ..options import Lifetime
from ..transport.scripts import Script
from . import scripts
from .scripts import Loaded


class Loads:
    """
    The ways to call load.lua. *extend*: whether the call extends the TTL.

    `all` and `none` read all fields or none; `touch` extends the TTL whatever `refresh_after` says.
    """

    __slots__ = ("_idle_ms", "_throttle", "all", "none", "touch")

    def __init__(self, lifetime: Lifetime) -> None:
        self._idle_ms = lifetime.idle_ms
        # A negative throttle leaves the TTL alone.
        self._throttle = {True: lifetime.refresh_after_ms, False: -1}
        throttles = self._throttle.items()
        self.all = {extend: self._prepared(throttle, "all") for extend, throttle in throttles}
        self.none = {extend: self._prepared(throttle, "none") for extend, throttle in throttles}
        self.touch = self._prepared(0, "none")

    def some(self, names: Sequence[str], *, extend: bool) -> tuple[Script[Loaded], tuple[Any, ...]]:
        """Return the script and the arguments that read these fields."""
        if not names:
            return self.none[extend], ()
        return scripts.LOAD, (self._idle_ms, self._throttle[extend], "some", *names)

    def _prepared(self, throttle: int, what: str) -> Script[Loaded]:
        return scripts.LOAD.prepare(self._idle_ms, throttle, what)

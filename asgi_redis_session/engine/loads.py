"""What reads a session: load.lua, packed once for all, or HGETALL where that will do."""

from collections.abc import Sequence
from typing import Any

from ..options import Lifetime
from ..transport.plain import Plain
from ..transport.scripts import Script
from . import scripts
from .reads import WHOLE, Read, reading
from .scripts import Loaded


class Loads:
    """
    The ways to call load.lua. *extend*: whether the call extends the TTL.

    `all` and `none` read all fields or none; `touch` extends the TTL even within `refresh_after`.
    `whole` reads all fields for a request: without a script, unless what happens to the TTL depends
    on what it is now.
    """

    __slots__ = ("_idle_ms", "_throttle", "all", "none", "touch", "whole")

    def __init__(self, lifetime: Lifetime) -> None:
        self._idle_ms = lifetime.idle_ms
        # A negative throttle leaves the TTL alone.
        self._throttle = {True: lifetime.refresh_after_ms, False: -1}
        throttles = self._throttle.items()
        self.all = {extend: self._prepared(throttle, "all") for extend, throttle in throttles}
        self.none = {extend: self._prepared(throttle, "none") for extend, throttle in throttles}
        self.touch = self._prepared(0, "none")
        self.whole: dict[bool, Script[Read] | Plain[Read]] = {
            extend: WHOLE.prepare(self._idle_ms, throttle, "all") for extend, throttle in throttles
        }
        if not lifetime.refresh_after_ms:
            self.whole[True] = reading(self._idle_ms)

    def some(
        self, names: Sequence[str], *, extend: bool, raw: bool = False
    ) -> tuple[Script[Loaded], tuple[Any, ...]]:
        """
        Return the script and the arguments that read these fields.

        *raw*: by their names in the hash, which fields with a TTL don't have.
        """
        if not names:
            return self.none[extend], ()
        return scripts.LOAD, (
            self._idle_ms,
            self._throttle[extend],
            "raw" if raw else "some",
            *names,
        )

    def _prepared(self, throttle: int, what: str) -> Script[Loaded]:
        return scripts.LOAD.prepare(self._idle_ms, throttle, what)

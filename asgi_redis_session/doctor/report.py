"""The result of `store.check()`, as data."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["CheckReport", "Finding", "Level"]

Level = Literal["ok", "advice", "problem", "unseen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The result of one check.

    *name*: the check, such as `eviction`. *level*: `ok`; `advice`, it works but could be better;
    `problem`, sessions fail or get lost; `unseen`, the store's user has no permission to look.
    *message*: what was found, and the cure unless it is `ok`. *server*: the server that it is
    about; None for the client and for the index.
    """

    name: str
    level: Level
    message: str
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `store.check()` has found, in the order of its checks."""

    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether there is no finding of the level `problem`."""
        return not self.of("problem")

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level == level)

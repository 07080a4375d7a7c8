"""What happens to sessions, for the app's hook, and counters of it."""

from dataclasses import dataclass, fields

__all__ = ["SessionEvent", "Stats"]


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """
    Something that happened to a session; carries handles, never ids or values.

    *name*: `created`, `logged_in`, `renewed`, `ended`, `gone` (a commit found its session ended),
    `unknown_id` (a well-formed cookie that Redis does not know), `conflict` (two different session
    cookies in one request), `corrupt` (a session that can't be read), `unavailable` (Redis did not
    answer).
    """

    name: str
    handle: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class Stats:
    """Plain counters of one store in this process, from its creation on."""

    loads: int = 0
    refreshes: int = 0
    refreshes_dropped: int = 0
    commits: int = 0
    gone: int = 0
    errors: int = 0
    batches: int = 0
    commands: int = 0

    def as_dict(self) -> dict[str, int]:
        """All counters by name, as a metrics exporter wants them."""
        return {counter.name: getattr(self, counter.name) for counter in fields(self)}

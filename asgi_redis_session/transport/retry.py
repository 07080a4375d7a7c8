"""What is known of a command that failed, so that it can be sent again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .lane import Lane, Purpose
from .plain import Plain
from .route import Hop
from .scripts import Script


@dataclass(slots=True)
class Retry:
    """A command whose first attempt failed, and what a further attempt needs to know."""

    script: Script[Any] | Plain[Any]
    keys: Sequence[bytes]
    arguments: Sequence[Any] = field(repr=False)
    packed: bytes = field(repr=False)
    purpose: Purpose
    deadline: float
    #: Whether it may be executed twice. If so, it is sent once more after a broken connection.
    idempotent: bool = False
    #: Where the last attempt went; None if it could not be sent anywhere.
    hop: Hop | None = None
    #: Whether it was sent again after a broken connection.
    resent: bool = False

    @property
    def lane(self) -> Lane | None:
        """The lane of the last attempt."""
        return None if self.hop is None else self.hop.lane

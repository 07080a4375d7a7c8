"""
Opening what was read of an encrypted session, and writing the values that have the wrong form.

While a deployment moves to encryption, sessions hold plain values that should be encrypted. Later,
a field may be declared plain that was encrypted before. Either is put right when a request reads
the session and extends its TTL.
"""

from collections.abc import Collection, Iterable

from ..events import Events
from ..transport.client import Client
from . import scripts
from .record import Changes
from .sealing import Seal, Sealing
from .shadows import Shadows
from .timed import VALUE


class Settling:
    """Opens the sessions of one store. *idle_ms*: the store's idle time."""

    __slots__ = ("_client", "_events", "_idle_ms", "_sealing", "_shadows")

    def __init__(
        self, client: Client, events: Events, sealing: Sealing, shadows: Shadows, idle_ms: int
    ) -> None:
        self._client = client
        self._events = events
        self._sealing = sealing
        self._shadows = shadows
        self._idle_ms = idle_ms

    def open_all(
        self, session_id: str | None, handle: str, raws: dict[bytes, bytes], *, settles: bool
    ) -> tuple[Seal, dict[bytes, bytes]]:
        """
        Return the seal of a session, and all of its fields in plain bytes.

        *settles*: whether values of the wrong form are written again, without waiting for it.
        Raises `CorruptValue` for values that belong elsewhere, `SessionSealed` without the id.
        """
        seal = self._sealing.of(session_id, handle)
        opened = seal.opened(raws)
        if settles and seal.unsettled:
            self._settle_soon(handle, seal, opened)
        return seal, opened

    def open_some(
        self,
        session_id: str | None,
        handle: str,
        fields: Iterable[tuple[str, bytes]],
        timed: Collection[bytes],
    ) -> list[tuple[str, bytes]]:
        """
        Return these fields in plain bytes; raises what `open_all` does.

        *timed*: those that have a TTL, and so another name in the hash.
        """
        seal = self._sealing.of(session_id, handle)
        return [
            (name, seal.open(VALUE + name if name.encode() in timed else name, raw))
            for name, raw in fields
        ]

    def _settle_soon(self, handle: str, seal: Seal, opened: dict[bytes, bytes]) -> None:
        """Write these values in the right form, if all of them are still as they were read."""
        names = seal.unsettled
        read = [part for name in names for part in (name, 1, seal.held[name])]
        changes = self._shadows.with_shadows(
            Changes({name.decode(): opened[name] for name in names})
        )
        sets = Changes(seal.closed(changes.fields)).hset_args()
        arguments = (self._idle_ms, len(names), *read, len(sets), *sets)
        if self._client.call_soon(scripts.WRITE_IF_SAME, (self._client.key(handle),), arguments):
            self._events.counted.settled += 1

"""What metrics and traces have in common: how they watch a store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from threading import Lock
from time import perf_counter

from .arguments import refuse_other
from .engine.ids import is_handle
from .events import SessionEvent, Stats
from .store import SessionStore, engine_of
from .transport.client import Client
from .transport.failures import BarrierNotReached

__all__ = ["GAUGES", "MEANINGS", "watch"]

#: Takes a command and a handle; what its context enters takes the outcome and a batch's size.
Around = Callable[[str, str | None], AbstractContextManager[Callable[[str, float | None], object]]]

#: The counters of a store, each with its meaning.
MEANINGS: dict[str, str] = {each.name: each.metadata["meaning"] for each in fields(Stats)}
#: Those that count nothing, but say what there is.
GAUGES = frozenset({"connections", "queued"})


def watch(
    what: str,
    store: SessionStore,
    *,
    on_command: Callable[[str, str, float], None],
    on_event: Callable[[SessionEvent], None],
    on_batches: Callable[[float, int], None] = lambda *_: None,
    around: Around = lambda *_: nullcontext(lambda *_: None),
) -> None:
    """
    Watch a store from now on. *what*: for errors.

    *on_command* is called with the name of each command, its outcome ("ok", "failed", "cancelled",
    or "not_durable", if the write is kept but its concern is not met), and the seconds from the
    call to the reply. *around* is put around it, and also takes the handle of its session, if it
    concerns one; what it enters is called with the outcome, and the size of the batch that was
    answered last. *on_event* is called with each event, *on_batches* with the size of batches and
    their number, when the next command ends.
    """
    refuse_other(what, store, SessionStore, "a SessionStore")
    client = engine_of(store).client
    prefix = client.key("")
    batches = _Batches(client, on_batches)

    @contextmanager
    def observer(command: str, key: bytes) -> Iterator[None]:
        name = key.removeprefix(prefix).decode(errors="replace")
        began, outcome = perf_counter(), "ok"
        with around(command, name if is_handle(name) else None) as end:
            try:
                yield
            except BaseException as error:
                outcome = _outcome_of(error)
                raise
            finally:
                on_command(command, outcome, perf_counter() - began)
                batches.look()
                end(outcome, batches.size)

    client.observe(observer)
    engine_of(store).events.listen(on_event)


class _Batches:
    """
    How many commands the batches have, from the counters that there are: the lanes report nothing.

    They are read when a command ends, so mostly for each batch. Where several have been answered
    between two looks, each counts with their mean.
    """

    def __init__(self, client: Client, on_batches: Callable[[float, int], None]) -> None:
        self._routes = client.routes
        self._on_batches = on_batches
        self._counted = self._count()
        self._lock = Lock()  # a store may be used by several threads
        #: How many commands the last batch had; None before the first one.
        self.size: float | None = None

    def look(self) -> None:
        """Report the batches since the last look."""
        with self._lock:
            former, self._counted = self._counted, self._count()
        batches, commands = (now - then for now, then in zip(self._counted, former, strict=True))
        # Below 0 if an event loop has ended. A proof that is sent again is a batch with none.
        number = min(batches, commands)
        if number > 0:
            self.size = commands / number
            self._on_batches(self.size, number)

    def _count(self) -> tuple[int, int]:
        counts = [route.counts() for route in list(self._routes.values())]
        return sum(batches for batches, _ in counts), sum(commands for _, commands in counts)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, BarrierNotReached):
        return "not_durable"
    return "failed" if isinstance(error, Exception) else "cancelled"

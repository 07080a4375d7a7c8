"""What metrics and traces have in common: how they watch a store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from time import perf_counter
from typing import Any

from .arguments import refuse_other
from .engine.ids import is_handle
from .events import SessionEvent, Stats
from .store import SessionStore, engine_of
from .transport.failures import BarrierNotReached

__all__ = ["GAUGES", "MEANINGS", "watch"]

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
    around: Callable[[str, str | None], AbstractContextManager[Any]] = lambda *_: nullcontext(),
) -> None:
    """
    Watch a store from now on. *what*: for errors.

    *on_command* is called with the name of each command, its outcome ("ok", "failed", "cancelled",
    or "not_durable", if the write is kept but its concern is not met), and the seconds from the
    call to the reply. *around* is put around it, and also takes the handle of its session, if it
    concerns one. *on_event* is called with each event.
    """
    refuse_other(what, store, SessionStore, "a SessionStore")
    client = engine_of(store).client
    prefix = client.key("")

    @contextmanager
    def observer(command: str, key: bytes) -> Iterator[None]:
        name = key.removeprefix(prefix).decode(errors="replace")
        began, outcome = perf_counter(), "ok"
        try:
            with around(command, name if is_handle(name) else None):
                yield
        except BaseException as error:
            outcome = _outcome_of(error)
            raise
        finally:
            on_command(command, outcome, perf_counter() - began)

    client.observe(observer)
    engine_of(store).events.listen(on_event)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, BarrierNotReached):
        return "not_durable"
    return "failed" if isinstance(error, Exception) else "cancelled"

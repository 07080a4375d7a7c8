"""OpenTelemetry: a span for each command of a store, and its counters as metrics."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.metrics import (
    CallbackOptions,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)
from opentelemetry.trace import SpanKind, TracerProvider, get_tracer_provider

from .arguments import refuse_other
from .events import SessionEvent
from .store import SessionStore
from .telemetry import GAUGES, MEANINGS, watch
from .version import __version__

__all__ = ["instrument"]

_NAME = "asgi_redis_session"


def instrument(
    store: SessionStore,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """
    Report each command of a store as a span, and its counters as metrics.

        instrument(store)

    Call it once, after the SDK was set up. A span `session load` or `session save` is the time
    from the call to the reply, in the trace of the request that made it; it names the session's
    handle, never its id, its user or a value. *tracer_provider*, *meter_provider*: by default the
    global ones.

    `docs/observability.md` lists spans and metrics. Needs the extra `otel`. Raises `TypeError` for
    unusable arguments.
    """
    refuse_other(
        "instrument(tracer_provider)", tracer_provider, TracerProvider | None, "a TracerProvider"
    )
    refuse_other(
        "instrument(meter_provider)", meter_provider, MeterProvider | None, "a MeterProvider"
    )
    tracer = (tracer_provider or get_tracer_provider()).get_tracer(_NAME, __version__)
    meter = (meter_provider or get_meter_provider()).get_meter(_NAME, __version__)
    seconds = meter.create_histogram(
        "asgi_redis_session.command.duration", "s", "From the call of a command to its reply."
    )
    sizes = meter.create_histogram(
        "asgi_redis_session.batch.size", "{command}", "How many commands have shared a round trip."
    )
    events = meter.create_counter(
        "asgi_redis_session.events", "{event}", "What has happened to sessions."
    )

    @contextmanager
    def around(command: str, handle: str | None) -> Iterator[Callable[[str, float | None], object]]:
        about = {"db.system.name": "redis", "db.operation.name": command}
        with tracer.start_as_current_span(
            f"session {command}",
            kind=SpanKind.CLIENT,
            attributes=about if handle is None else about | {"session.handle": handle},
        ) as span:
            yield lambda outcome, size: span.set_attributes(
                {"outcome": outcome} | ({} if size is None else {"session.batch.size": size})
            )

    def measure(command: str, outcome: str, duration: float) -> None:
        seconds.record(duration, {"db.operation.name": command, "outcome": outcome})

    def measure_batches(size: float, number: int) -> None:
        for _ in range(number):
            sizes.record(size)

    def count(event: SessionEvent) -> None:
        reason = {} if event.reason is None else {"reason": event.reason}
        events.add(1, {"event": event.name, **reason})

    watch(
        "instrument(store)",
        store,
        on_command=measure,
        on_event=count,
        on_batches=measure_batches,
        around=around,
    )
    _report_counters(meter, store)


def _report_counters(meter: Meter, store: SessionStore) -> None:
    def reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [Observation(store.stats.as_dict()[name], {"prefix": store.prefix})]

    for name, meaning in MEANINGS.items():
        gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
        create = gauge if name in GAUGES else counter
        create(f"{_NAME}.{name}", [reading(name)], "{count}", meaning)

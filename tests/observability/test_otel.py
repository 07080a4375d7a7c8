"""Spans and metrics in a real OpenTelemetry SDK."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.otel import instrument

from ..support.internals import handle_of, open_session
from ..support.search import TENANT, indexed
from ..support.sessions import create


class Telemetry:
    """An SDK that keeps what it is given."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def watch(self, store: SessionStore) -> None:
        instrument(store, tracer_provider=self.tracers, meter_provider=self.meters)

    def metrics(self) -> dict[str, list[Any]]:
        """The data points, by the names of their metrics."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.mark.on_cluster
async def test_each_command_is_a_span_of_its_request(
    store: SessionStore, telemetry: Telemetry
) -> None:
    """It names the command and the handle, and belongs to the trace of who asked."""
    session_id = await create(store, plan="platinum")
    telemetry.watch(store)
    with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
        session = await open_session(store, session_id).load()
        session["plan"] = "palladium"
        await session.save()
    *ours, request = telemetry.exporter.get_finished_spans()
    assert [span.name for span in ours] == ["session load", "session commit"]
    for span in ours:
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        about: dict[str, Any] = dict(span.attributes or {})
        # A commit may travel with the PEXPIREAT of the load; a script that is new goes twice.
        assert 1 <= about.pop("session.batch.size") <= 2
        assert about == {
            "db.system.name": "redis",
            "db.operation.name": span.name.removeprefix("session "),
            "session.handle": handle_of(store, session_id),
            "outcome": "ok",
        }
    shown = "".join(span.to_json() for span in ours)
    assert not [secret for secret in (session_id, "platinum", "palladium") if secret in shown]


@pytest.mark.on_cluster
async def test_metrics(store: SessionStore, telemetry: Telemetry) -> None:
    """The store's counters, its events, and the durations of its commands."""
    telemetry.watch(store)
    session_id = await create(store, n=1)
    await (await open_session(store, session_id).load()).logout()
    metrics = telemetry.metrics()
    for name, value in store.stats.as_dict().items():
        (point,) = metrics[f"asgi_redis_session.{name}"]
        assert (point.value, point.attributes) == (value, {"prefix": store.prefix})
    events = [dict(point.attributes) for point in metrics["asgi_redis_session.events"]]
    assert events == [{"event": "created"}, {"event": "ended", "reason": "logout"}]
    durations = metrics["asgi_redis_session.command.duration"]
    assert {point.attributes["db.operation.name"] for point in durations} >= {"create", "load"}
    assert {point.attributes["outcome"] for point in durations} == {"ok"}


@pytest.mark.on_cluster
@pytest.mark.needs_search
async def test_a_question_of_search_is_a_span(
    session_redis_url: str, prefix: str, telemetry: Telemetry
) -> None:
    """One, whatever it takes; it concerns no single session."""
    async with indexed(session_redis_url, prefix, timeout=20) as store:
        telemetry.watch(store)
        assert await store.search.count(TENANT == "palladium") == 0
        (span,) = telemetry.exporter.get_finished_spans()
    assert span.name == "session search"
    about = dict(span.attributes or {})
    about.pop("session.batch.size")
    assert about == {
        "db.system.name": "redis",
        "db.operation.name": "search",
        "outcome": "ok",
    }
    assert "palladium" not in span.to_json()


async def test_a_failure_is_an_error_of_its_span(
    prefix: str, unused_tcp_port: int, telemetry: Telemetry
) -> None:
    """A Redis that is away."""
    url = f"redis://127.0.0.1:{unused_tcp_port}"
    async with SessionStore.from_url(url, prefix=prefix, timeout=0.2) as store:
        telemetry.watch(store)
        with pytest.raises(SessionUnavailable):
            await open_session(store, "A" * 43).load()
        (span,) = telemetry.exporter.get_finished_spans()
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["outcome"] == "failed"
        assert "session.batch.size" not in (span.attributes or {})  # none was answered
        assert "A" * 43 not in span.to_json()
        (point,) = telemetry.metrics()["asgi_redis_session.command.duration"]
    assert point.attributes["outcome"] == "failed"

"""Metrics for Prometheus: what stores count, and how long their commands take."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .arguments import refuse_other
from .events import SessionEvent
from .exchange import Receive, Scope, Send
from .store import SessionStore
from .telemetry import GAUGES, MEANINGS, watch

__all__ = ["PrometheusApp"]

#: Upper bounds in seconds. A round trip on a good day takes less than the second one.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
#: Upper bounds in commands.
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class PrometheusApp:
    """
    An ASGI app that answers with the metrics of stores, as Prometheus reads them.

        app.mount("/metrics", PrometheusApp(store))

    It counts from the moment it is made. Each process has counters of its own: let Prometheus
    scrape each one, and keep the address away from the public.

    *stores*: each is told apart by the label `prefix`. *registry*: where the metrics are entered.
    Give it `prometheus_client.REGISTRY` if the app exports that already; by default this app has
    one of its own.

    `docs/observability.md` lists the metrics. Needs the extra `metrics`. Raises `TypeError` or
    `ValueError` for unusable arguments.
    """

    def __init__(self, *stores: SessionStore, registry: CollectorRegistry | None = None) -> None:
        if not stores:
            raise ValueError("PrometheusApp needs a SessionStore.")
        refuse_other(
            "PrometheusApp(registry)", registry, CollectorRegistry | None, "a CollectorRegistry"
        )
        self.registry = CollectorRegistry() if registry is None else registry
        self._seconds = Histogram(
            "asgi_redis_session_command_seconds",
            "From the call of a command to its reply, retries included.",
            ("prefix", "command", "outcome"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._events = Counter(
            "asgi_redis_session_events",
            "What has happened to sessions.",
            ("prefix", "event", "reason"),
            registry=self.registry,
        )
        self._batches = Histogram(
            "asgi_redis_session_batch_commands",
            "How many commands have shared a round trip.",
            ("prefix",),
            buckets=_SIZES,
            registry=self.registry,
        )
        for store in stores:
            self._watch(store)
        self.registry.register(_Counters(stores))
        self._app = make_asgi_app(self.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] != "http":
            raise RuntimeError("PrometheusApp serves HTTP only: mount it in an app.")
        await self._app(scope, receive, send)

    def _watch(self, store: SessionStore) -> None:
        known: dict[tuple[str, str], Histogram] = {}

        def observe(command: str, outcome: str, seconds: float) -> None:
            if (command, outcome) not in known:  # `labels` takes a lock each time
                known[command, outcome] = self._seconds.labels(store.prefix, command, outcome)
            known[command, outcome].observe(seconds)

        def measure(size: float, number: int) -> None:
            batches = self._batches.labels(store.prefix)
            for _ in range(number):
                batches.observe(size)

        def count(event: SessionEvent) -> None:
            self._events.labels(store.prefix, event.name, event.reason or "").inc()

        watch("PrometheusApp(store)", store, on_command=observe, on_event=count, on_batches=measure)


class _Counters(Collector):
    """`store.stats`, read when Prometheus asks."""

    def __init__(self, stores: tuple[SessionStore, ...]) -> None:
        self._stores = stores

    def collect(self) -> Iterator[Metric]:
        """Yield one family for each counter."""
        counted = [(store.prefix, store.stats.as_dict()) for store in self._stores]
        for name, meaning in MEANINGS.items():
            family = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
            metric = family(f"asgi_redis_session_{name}", meaning, labels=["prefix"])
            for prefix, stats in counted:
                metric.add_metric([prefix], stats[name])
            yield metric

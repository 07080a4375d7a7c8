"""What Prometheus is told: counters, events, durations; and that nothing secret is among them."""

import asyncio
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from asgi_redis_session import Durability, SearchUnavailable, SessionStore, SessionUnavailable
from asgi_redis_session.events import Stats
from asgi_redis_session.metrics import PrometheusApp

from ..support.internals import handle_of, open_session
from ..support.search import TENANT, indexed
from ..support.sessions import create, log_in

Samples = dict[tuple[str, ...], float]


async def scraped(app: PrometheusApp) -> Samples:
    """What the app answers: values by name and labels (in the order of their names)."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *[sample.labels[name] for name in sorted(sample.labels)]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def seconds(samples: Samples, store: SessionStore, outcome: str = "ok") -> dict[str, float]:
    """How many durations of each command were measured."""
    name = "asgi_redis_session_command_seconds_count"
    return {
        labels[1]: value
        for labels, value in samples.items()
        if labels[0] == name and labels[2:] == (outcome, store.prefix)
    }


@pytest.mark.on_cluster
async def test_it_counts_what_the_store_does(store: SessionStore) -> None:
    """All of `store.stats`, each event by name and reason, and how long each command took."""
    app = PrometheusApp(store)
    session_id = await create(store, n=1)
    session = await open_session(store, session_id).load()
    await session.login("ann")
    await session.save()
    await session.logout()
    await store.drain()
    samples = await scraped(app)
    stats = store.stats.as_dict()
    for name, value in stats.items():
        ending = "" if name in ("connections", "queued") else "_total"
        assert samples[f"asgi_redis_session_{name}{ending}", store.prefix] == value
    assert samples["asgi_redis_session_connections", store.prefix] > 0
    events = {
        (labels[1], labels[3]): value
        for labels, value in samples.items()
        if labels[0] == "asgi_redis_session_events_total"
    }
    assert events == {
        ("created", ""): 1,
        ("logged_in", ""): 1,
        ("ended", "logout"): 1,
    }
    counted = seconds(samples, store)
    assert counted["create"] == 1
    assert {"load", "place_reserve", "end"} <= counted.keys()
    assert all(labels[0] != "asgi_redis_session_command_seconds_sum" or value > 0
               for labels, value in samples.items())  # fmt: skip


@pytest.mark.one_node
async def test_the_sizes_of_batches(store: SessionStore) -> None:
    """Of fifty reads at once, all but the first share a round trip; commands and batches add up."""
    session_id = await create(store, n=1)
    await open_session(store, session_id).load()
    await store.drain()
    app, before = PrometheusApp(store), store.stats
    await asyncio.gather(*[open_session(store, session_id).load() for _ in range(50)])
    samples, after = await scraped(app), store.stats
    name = "asgi_redis_session_batch_commands"
    assert samples[f"{name}_sum", store.prefix] == after.commands - before.commands
    assert samples[f"{name}_count", store.prefix] == after.batches - before.batches
    small = samples[f"{name}_bucket", "8.0", store.prefix]
    large = samples[f"{name}_bucket", "64.0", store.prefix]
    assert small < large


@pytest.mark.on_cluster
@pytest.mark.needs_search
async def test_a_question_of_search_is_measured(session_redis_url: str, prefix: str) -> None:
    """Once, whatever it takes; one without an answer has failed."""
    async with indexed(session_redis_url, prefix, timeout=20) as store:
        app = PrometheusApp(store)
        await create(store, tenant="acme")
        assert await store.search.count() == 1
        assert await store.search.count_by("tenant") == {"acme": 1}
        assert len([info async for info in store.search.find(TENANT == "acme")]) == 1
        assert seconds(await scraped(app), store)["search"] == 3
        await store.search.drop_index()
        with pytest.raises(SearchUnavailable):
            await store.search.count()
        assert seconds(await scraped(app), store, "failed") == {"search": 1}


@pytest.mark.on_cluster
async def test_no_id_and_no_value_is_shown(store: SessionStore) -> None:
    """Neither ids nor handles, users or values are labels: they would be secrets, or too many."""
    app = PrometheusApp(store)
    session_id = await log_in(store, "ann@example.com", plan="platinum")
    await open_session(store, session_id).load()
    text = repr(await scraped(app))
    for secret in (session_id, handle_of(store, session_id), "platinum", "ann@example.com"):
        assert secret not in text


async def test_a_failure_is_an_outcome(
    unused_tcp_port_factory: Callable[[], int], prefix: str
) -> None:
    """A Redis that is away: the command has failed, and the store counts an error."""
    url = f"redis://127.0.0.1:{unused_tcp_port_factory()}"
    async with SessionStore.from_url(url, prefix=prefix, timeout=0.2) as store:
        app = PrometheusApp(store)
        with pytest.raises(SessionUnavailable):
            await open_session(store, "A" * 43).load()
        samples = await scraped(app)
    assert seconds(samples, store, "failed") == {"load": 1}
    assert samples["asgi_redis_session_errors_total", prefix] == 1
    assert samples["asgi_redis_session_events_total", "unavailable", prefix, ""] == 1


@pytest.mark.one_node
async def test_a_write_concern_that_is_not_met_is_an_outcome(
    session_redis_url: str, prefix: str
) -> None:
    """The write is kept, so that is no failure."""
    async with SessionStore.from_url(session_redis_url, prefix=prefix, timeout=20) as store:
        app = PrometheusApp(store)
        session = await open_session(store, await create(store, n=1)).load()
        session["n"] = 2
        with pytest.raises(Exception, match="replica"):
            await session.save(durability=Durability(replicas=1, timeout=0.05))
        assert seconds(await scraped(app), store, "not_durable") == {"commit": 1}


async def test_two_stores_are_told_apart(session_redis_url: str, prefix: str) -> None:
    """By their prefix, in one registry, which may be the app's own."""
    registry = CollectorRegistry()
    async with (
        SessionStore.from_url(session_redis_url, prefix=f"{prefix}:a") as first,
        SessionStore.from_url(session_redis_url, prefix=f"{prefix}:b") as second,
    ):
        app = PrometheusApp(first, second, registry=registry)
        await create(first, n=1)
        await create(second, n=1)
        await create(second, n=1)
        samples = await scraped(app)
    assert (
        registry.get_sample_value("asgi_redis_session_commits_total", {"prefix": second.prefix})
        == 2
    )
    assert samples["asgi_redis_session_commits_total", first.prefix] == 1
    assert seconds(samples, second) == {"create": 2}


async def test_it_is_mounted_and_serves_http_only(store: SessionStore) -> None:
    """In a Starlette app; a WebSocket is refused by a sentence."""
    app = PrometheusApp(store)
    outer = Starlette()
    outer.mount("/metrics", app)
    transport = httpx.ASGITransport(app=outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert "asgi_redis_session_loads_total" in (await client.get("/metrics/")).text

    async def nothing(*_: Any) -> Any:
        return {}

    with pytest.raises(RuntimeError, match="serves HTTP only"):
        await app({"type": "websocket"}, nothing, nothing)


async def test_a_listener_that_fails_disturbs_no_other(session_redis_url: str, prefix: str) -> None:
    """The app's hook and the metrics both hear of each event."""

    def fails(_: object) -> None:
        raise RuntimeError("the app's own fault")

    async with SessionStore.from_url(session_redis_url, prefix=prefix, on_event=fails) as store:
        app = PrometheusApp(store)
        await create(store, n=1)
        samples = await scraped(app)
    assert samples["asgi_redis_session_events_total", "created", prefix, ""] == 1


def test_each_counter_says_what_it_means() -> None:
    """Prometheus shows the meaning beside the figure."""
    assert all(each.metadata["meaning"].endswith(".") for each in fields(Stats))

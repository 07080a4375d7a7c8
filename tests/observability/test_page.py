"""The blocks of docs/observability.md run, in their order."""

from typing import Any

import httpx
import pytest
from opentelemetry import trace
from starlette.routing import Route

from asgi_redis_session import SessionStore

from ..support.documents import blocks


@pytest.mark.one_node
async def test_the_page_runs(session_redis_url: str, unused_tcp_port: int) -> None:
    """Metrics under /metrics, spans, and a check that says when Redis is away."""
    prometheus, otel, health = blocks("docs/observability.md", "python")
    scope: dict[str, Any] = {}
    exec(prometheus.replace("redis://localhost:6379/0", session_redis_url), scope)
    exec(otel, scope)  # without an SDK, OpenTelemetry's API does nothing
    exec(health, scope)
    app, store = scope["app"], scope["store"]
    app.router.routes.insert(0, Route("/healthz", scope["healthz"]))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="https://test") as client:
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.text) == (200, "ready\n")
        metrics = (await client.get("/metrics/")).text
        assert 'asgi_redis_session_command_seconds_count{command="place_list' in metrics
        await store.aclose()
        away = SessionStore.from_url(f"redis://127.0.0.1:{unused_tcp_port}", timeout=0.2)
        scope["store"] = away
        answer = await client.get("/healthz")
        assert (answer.status_code, "did not" in answer.text or "can't" in answer.text) == (
            503,
            True,
        )
        await away.aclose()
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.anywhere
def test_the_extras_are_those_of_the_page() -> None:
    """pip takes them."""
    commands = [block.strip() for block in blocks("docs/observability.md", "console")]
    assert commands == [
        f"$ pip install 'asgi-redis-session[{extra}]'" for extra in ("metrics", "otel")
    ]

"""A real Prometheus scrapes the app, runs the dashboard's queries and evaluates the alert rules."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_redis_session import Num, SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.metrics import PrometheusApp
from asgi_redis_session.starlette import load_session

from ..gateways.proxies import free_port
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

pytestmark = pytest.mark.anywhere

DOCS = Path(__file__).parents[2] / "docs" / "observability"
RULES = DOCS / "alerts.yml"
#: Of a session that Redis does not know.
UNKNOWN = {"cookie": f"{PLAIN.name}={'x' * 43}"}


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing: `sudo make debian` installs it")
    return path


class Prometheus:
    """A server that scrapes one target."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        return self._client.get(f"/api/v1/{path}", params=parameters).json()["data"]

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def found(self, expression: str) -> list[Any]:
        """What a query finds now; numbers only."""
        result = self.get("query", query=expression)["result"]
        return [one for one in result if one["value"][1] != "NaN"]


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    for _ in range(PATIENCE * 10):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come")


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Start a Prometheus with the documented rules, which scrapes the target all the time."""
    often = "100ms"
    configuration = {
        "global": {"scrape_interval": often, "evaluation_interval": often},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "app",
                "metrics_path": "/metrics/",
                "static_configs": [{"targets": [target.removeprefix("http://")]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:
                server = Prometheus(client)
                wait_for(server.is_ready, "Prometheus")
                yield server
        finally:
            process.terminate()


async def _use(request: Request) -> PlainTextResponse:
    """Every verb that the dashboard shows."""
    session = await load_session(request)
    if request.url.path == "/search":
        search = request.app.state.store.search
        await search.create_index()
        return PlainTextResponse(str(await search.count()))
    session["n"] = session.get("n", 0) + 1
    if request.url.path == "/login":
        await session.login("ann")
    if request.url.path == "/logout":
        await session.logout()
    return PlainTextResponse("done")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[str, DevServer]]:
    """The URL of an app with metrics, and its Redis."""
    with DevServer() as redis:
        store = SessionStore.from_url(redis.url, timeout=2, index=[Num("n")])
        routes = [Route("/{path}", _use), Mount("/metrics", PrometheusApp(store))]
        starlette = Starlette(routes=[routes[1], routes[0]])
        starlette.state.store = store
        starlette.add_middleware(SessionMiddleware, store=store, cookie=PLAIN)
        with serve(starlette) as url:
            yield url, redis


def _expressions() -> dict[str, str]:
    """The dashboard's queries, as Grafana sends them, by panel and letter."""
    panels = json.loads((DOCS / "dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$__rate_interval", "1m")
        .replace("$prefix", ".*")
        for panel in panels
        for target in panel["targets"]
    }


def test_every_panel_shows_something_and_alerts_fire(
    app: tuple[str, DevServer], tmp_path: Path
) -> None:
    """All queries of the dashboard find numbers; an outage makes its alert pending."""
    url, redis = app
    with prometheus(url, tmp_path) as server, httpx.Client(timeout=PATIENCE) as browser:

        def visit() -> None:
            for path in ("/visit", "/login", "/visit", "/search", "/logout"):
                browser.get(f"{url}{path}")
            httpx.get(f"{url}/visit", headers=UNKNOWN, timeout=PATIENCE)

        empty = _expressions()
        assert len(empty) > 10

        def shows_all() -> bool:
            visit()
            for panel in [panel for panel, query in empty.items() if server.found(query)]:
                del empty[panel]
            return not empty

        wait_for(shows_all, f"figures for {list(empty)}")
        (group,) = server.get("rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
        assert not server.get("alerts")["alerts"]
        redis.stop()

        def alerts() -> set[str]:
            httpx.get(f"{url}/visit", headers=UNKNOWN, timeout=PATIENCE)
            return {each["labels"]["alertname"] for each in server.get("alerts")["alerts"]}

        assert "SessionsUnavailable" in wait_for(alerts, "an alert")


def test_the_tools_of_prometheus_find_no_fault(app: tuple[str, DevServer]) -> None:
    """promtool reads the rules, and what the app answers, and has nothing to say."""
    url, _ = app
    text = httpx.get(f"{url}/metrics/", timeout=PATIENCE).text
    for arguments, read in ((["rules", str(RULES)], ""), (["metrics"], text)):
        done = subprocess.run(
            [program("promtool"), "check", *arguments],
            input=read,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_documents_name_each_metric(app: tuple[str, DevServer]) -> None:
    """docs/observability.md has a row for each, and no other."""
    url, _ = app
    shown = {
        line.split()[2]
        for line in httpx.get(f"{url}/metrics/", timeout=PATIENCE).text.splitlines()
        if line.startswith("# TYPE") and not line.split()[2].endswith("_created")
    }
    page = (DOCS.parent / "observability.md").read_text()
    rows = {line.split("`")[1].partition("{")[0] for line in page.splitlines()
            if line.startswith("| `asgi_redis_session_")}  # fmt: skip
    assert rows == shown

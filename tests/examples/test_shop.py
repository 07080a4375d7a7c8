"""The demo shop in the hands of its customers, on two instances over one Redis."""

import base64
import importlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Self

import anyio
import httpx
import pytest
import redis

from asgi_redis_session.demo.app import make_app
from asgi_redis_session.demo.goods import BRANCHES, PRODUCTS
from asgi_redis_session.devserver import DevServer

from ..support.keyspace import session_keys
from ..support.servers import wait_for
from ..support.serving import PATIENCE, serve, stop

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parents[2]


METADATA = (b"@v", b"@created", b"@deadline", b"@seen", b"@auth", b"@idle", b"@agent", b"@ip")


MINUTE = 60_000


NOBODY = {"user": None}


PARTS = {"redis", "rates", "figures"}  # of the operator's page


Step = tuple[str, dict[str, str]]  # where to post which form


class Instance:
    """One `uvicorn examples.shop:app`; its socket is ours, so that a restart keeps the port."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}".format(*self._socket.getsockname())
        self.start()

    def start(self) -> None:
        number = self._socket.fileno()
        command = [sys.executable, "-m", "uvicorn", "examples.shop:app", "--fd", str(number)]
        self._process = subprocess.Popen(
            [*command, "--log-level", "warning"],
            cwd=ROOT,
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[number],
        )

    def stop(self) -> int:
        return stop(self._process)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()


@pytest.fixture
def environment(session_redis_url: str, prefix: str) -> dict[str, str]:
    """What the shop is told about its Redis."""
    return {"REDIS_URL": session_redis_url, "SESSION_PREFIX": prefix}


@pytest.fixture
def instances(environment: dict[str, str]) -> Iterator[tuple[Instance, Instance]]:
    """Two processes over one Redis."""
    both = Instance(environment), Instance(environment)
    yield both
    for instance in both:
        instance.close()


@pytest.fixture
def url(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One instance, in this process."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    sys.modules.pop("examples.shop", None)
    app = importlib.import_module("examples.shop").app
    with serve(app) as url:
        yield url


class Customer:
    """A browser of somebody who is served by another instance each time."""

    def __init__(self, *urls: str) -> None:
        self._urls = list(urls)
        self._browser = httpx.AsyncClient(timeout=PATIENCE)
        self.ids: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._browser.aclose()

    async def do(self, *steps: Step) -> None:
        for path, data in steps:
            response = await self._send("POST", path, data=data)
            assert response.status_code == 303, response.text
            assert response.headers["location"].startswith("/")

    async def session(self, session_id: str | None = None) -> Any:
        """What the shop knows; of the session with this id, if one is given."""
        headers = {"cookie": f"session={session_id}"} if session_id else {}
        known = (await self._send("GET", "/api/session", headers=headers)).json()
        known.pop("branch", None)  # that of the first thing in the cart
        return known

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        self._urls.append(self._urls.pop(0))
        response = await self._browser.request(method, self._urls[0] + path, **options)
        if (session_id := self._browser.cookies.get("session")) and session_id not in self.ids:
            self.ids.append(session_id)
        return response


def login(name: str) -> Step:
    return "/login", {"name": name}


def put(sku: str, by: int = 1) -> Step:
    return f"/cart/{sku}", {"by": str(by)}


def prefer(theme: str, currency: str) -> Step:
    return "/preferences", {"theme": theme, "currency": currency}


def everything(admin: Any) -> list[bytes]:
    """Every key, field and value of this Redis."""
    seen: list[bytes] = []
    for key in session_keys(admin):
        seen.append(key)
        if admin.type(key) == b"hash":
            seen += [part for pair in admin.hgetall(key).items() for part in pair]
        elif admin.type(key) == b"zset":
            seen += admin.zrange(key, 0, -1)
    return seen


BEFORE_THE_RESTART = {
    "Ann": [login("Ann"), put("tea"), put("tea"), put("jug")],
    "Bob <b>": [
        *[put("bread"), put("honey"), put("bread")],
        *[login("Bob <b>"), prefer("dark", "USD")],
    ],
    "Čeněk": [prefer("light", "GBP"), login("Čeněk"), put("pears")],
}


AFTER_THE_RESTART = {
    "Ann": [put("cheese"), put("cheese"), put("cheese", -1), put("jug", -1)],
    "Bob <b>": [put("bread"), put("bread"), put("bread"), put("bread")],
    "Čeněk": [put("pears"), prefer("auto", "GBP")],
}


EXPECTED: dict[str, dict[str, Any]] = {
    "Ann": {"user": "Ann", "cart": {"tea": 2, "cheese": 1}},
    "Bob <b>": {
        "user": "Bob <b>",
        "cart": {"bread": 6, "honey": 1},
        "theme": "dark",
        "currency": "USD",
    },
    "Čeněk": {"user": "Čeněk", "cart": {"pears": 2}, "theme": "auto", "currency": "GBP"},
}


async def test_three_customers_two_instances_one_restart(
    instances: tuple[Instance, Instance], admin: Any, prefix: str
) -> None:
    """Every cart is whole, each customer has one session, and no id of theirs is in Redis."""
    urls = [instance.url for instance in instances]
    async with AsyncExitStack() as stack:
        customers = {name: await stack.enter_async_context(Customer(*urls)) for name in EXPECTED}

        async def all_do(steps: dict[str, list[Step]]) -> None:
            async with anyio.create_task_group() as together:
                for name, customer in customers.items():
                    together.start_soon(customer.do, *steps[name])

        await all_do(BEFORE_THE_RESTART)
        instances[0].stop()
        instances[0].start()
        await all_do(AFTER_THE_RESTART)
        for name, customer in customers.items():
            seen = [await customer.session() for _ in instances]
            assert seen == [EXPECTED[name], EXPECTED[name]]

    # Ann's session began with her log-in; the others had one before, and its id was replaced.
    ids = [customer.ids for customer in customers.values()]
    assert [len(each) for each in ids] == [1, 2, 2]
    assert_one_whole_hash_each(admin, prefix)
    assert_occurs_nowhere(admin, *chain(*ids))


def assert_one_whole_hash_each(admin: Any, prefix: str) -> None:
    """Under the prefix is a hash for each customer, listed in an index, and nothing else."""
    keys = sorted(session_keys(admin, prefix))
    handles = [key for key in keys if re.fullmatch(prefix.encode() + rb":[0-9a-f]{32}", key)]
    indexes = sorted({*keys} - {*handles})
    assert all(re.fullmatch(prefix.encode() + rb":user:[0-9a-f]{32}", key) for key in indexes)
    listed = [name for key in indexes for name in admin.zrange(key, 0, -1)]
    assert sorted(prefix.encode() + b":" + name for name in listed) == handles
    assert all(0 < admin.pttl(key) <= 30 * MINUTE for key in handles)
    assert all(0 < admin.pttl(key) <= 7 * 24 * 60 * MINUTE for key in indexes)
    hashes = {stored.pop(b"@user").decode(): stored for stored in map(admin.hgetall, handles)}
    assert len(handles) == len(indexes) == len(hashes) == len(EXPECTED)
    for name, fields in EXPECTED.items():
        metadata = {field: hashes[name].pop(field) for field in METADATA}
        shown = {n.decode(): v.decode() for n, v in hashes[name].items() if n[:1] != b"@"}
        counted = {sku: int(shown.pop(f"cart:{sku}", 0)) for sku in PRODUCTS}
        assert {sku: number for sku, number in counted.items() if number} == fields["cart"]
        texts = {field: text for field, text in fields.items() if field not in ("user", "cart")}
        assert shown == {"branch": "harbour", **texts}
        version, created, deadline, seen, auth = (int(metadata[field]) for field in METADATA[:5])
        assert version == 1
        assert created == auth <= seen < deadline
        assert deadline - created == 7 * 24 * 60 * MINUTE
        assert metadata[b"@agent"].startswith(b"python-httpx/")
        assert metadata[b"@ip"] == b"127.0.0.1"


def assert_occurs_nowhere(admin: Any, *ids: str) -> None:
    """No key, field or value has one of these ids in it: as it is, as bytes, or in hex."""
    everywhere = b"\n".join(everything(admin))
    for session_id in ids:
        raw = base64.urlsafe_b64decode(session_id + "=")
        for form in (session_id.encode(), raw, raw.hex().encode()):
            assert form not in everywhere


async def test_an_id_from_before_the_login_is_worth_nothing(
    instances: tuple[Instance, Instance],
) -> None:
    """Logging in gives a new id at once, on every instance; the cart comes along."""
    urls = [instance.url for instance in instances]
    async with Customer(*urls) as ann, Customer(*urls) as thief:
        await ann.do(put("tea"), login("Ann"))
        assert await ann.session() == {"user": "Ann", "cart": {"tea": 1}}
        planted, own = ann.ids
        assert [await thief.session(planted) for _ in urls] == [NOBODY, NOBODY]
        assert (await thief.session(own))["user"] == "Ann"


async def test_another_customer_gets_an_empty_cart(
    instances: tuple[Instance, Instance], admin: Any, prefix: str
) -> None:
    """Who logs in again keeps the cart; somebody else at the same browser never sees it."""
    async with Customer(*[instance.url for instance in instances]) as browser:
        await browser.do(put("tea"), login("Ann"), login("Ann"))
        assert await browser.session() == {"user": "Ann", "cart": {"tea": 1}}
        await browser.do(login("Bob"))
        assert await browser.session() == {"user": "Bob"}
        await browser.do(put("jug"))
        assert await browser.session() == {"user": "Bob", "cart": {"jug": 1}}
    handle, index = sorted(session_keys(admin, prefix))
    assert b":user:" in index
    assert admin.hget(handle, "@user") == b"Bob"


async def test_logging_out_on_one_instance_logs_out_on_all(
    instances: tuple[Instance, Instance], admin: Any, prefix: str
) -> None:
    """The hash is gone, the browser has no cookie, and the id opens nothing anywhere."""
    urls = [instance.url for instance in instances]
    async with Customer(*urls) as ann, Customer(*urls) as thief:
        await ann.do(login("Ann"), ("/logout", {}))
        assert session_keys(admin, prefix) == []
        assert [await ann.session() for _ in urls] == [NOBODY, NOBODY]
        assert [await thief.session(ann.ids[0]) for _ in urls] == [NOBODY, NOBODY]


def test_the_page_shows_what_the_session_holds(url: str) -> None:
    """Names are escaped, prices follow the currency; no script but the shop's own is there."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as browser:
        first = browser.get("/")
        assert "Nothing yet" in first.text
        assert "set-cookie" not in first.headers
        assert "script-src" not in first.headers["content-security-policy"]
        assert "€\u00a08.50" in first.text
        browser.post("/login", data={"name": "<script>Ann</script>"})
        browser.post("/preferences", data={"theme": "dark", "currency": "USD"})
        browser.post("/cart/tea", data={"by": "1"})
        page = browser.post("/cart/tea", data={"by": "1"}).text
    assert "&lt;script&gt;Ann&lt;/script&gt;" in page
    assert re.findall("<script[^>]*>", page) == ['<script src="/static/shop.js" defer>']
    assert 'data-theme="dark"' in page
    assert '<option value="USD" selected>' in page
    assert "$\u00a09.94" in page
    assert "$\u00a019.88" in page


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (put("gold"), 404),
        (put("tea", 1_000_000), 422),
        (prefer("dark'>", "EUR"), 422),
        (login("x" * 41), 422),
    ],
)
def test_nonsense_leaves_no_trace(
    url: str, admin: Any, prefix: str, form: Step, status: int
) -> None:
    """What no form of the page can send is refused, and no session comes of it."""
    path, data = form
    response = httpx.post(url + path, data=data, timeout=PATIENCE)
    assert response.status_code == status
    assert "set-cookie" not in response.headers
    assert session_keys(admin, prefix) == []


@pytest.fixture
def https(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop is behind HTTPS."""
    monkeypatch.setenv("SHOP_HTTPS", "1")


def test_https_makes_the_cookie_a_host_cookie(https: None, url: str) -> None:
    """SHOP_HTTPS=1: browsers take the cookie over HTTPS only, and from this host only."""
    answer = httpx.post(url + "/login", data={"name": "Ann"}, timeout=PATIENCE)
    attributes = r"__Host-session=[\w-]{43}; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert re.fullmatch(attributes, answer.headers["set-cookie"])


@pytest.fixture(params=["search", "no search"])
def counted(request: pytest.FixtureRequest, prefix: str) -> Iterator[tuple[str, Any]]:
    """The shop on a Redis with Search, or without; and a client of that Redis."""
    has_search = request.param == "search"
    if has_search and not request.getfixturevalue("has_search"):
        pytest.skip("this Redis has no Search")
    with ExitStack() as stack:
        if has_search:
            redis_url, client = (request.getfixturevalue(n) for n in ("session_redis_url", "admin"))
        else:
            redis_url = stack.enter_context(DevServer(search=False)).url
            client = stack.enter_context(redis.Redis.from_url(redis_url))
        yield stack.enter_context(serve(make_app(redis_url, prefix=prefix))), client


def test_the_operator_counts_and_recalls(counted: tuple[str, Any], prefix: str) -> None:
    """With Search or by reading all sessions: the same figures, and it says which way."""
    url, client = counted
    with httpx.Client(base_url=url, follow_redirects=True, timeout=PATIENCE) as operator:
        operator.get("/operator")
        page = operator.post("/operator/fill").text
        hashes = [
            client.hgetall(key) for key in session_keys(client, prefix) if b":user:" not in key
        ]
        assert f"<strong>{len(hashes)}</strong> session" in page
        for branch, name in BRANCHES.items():
            number = sum(stored[b"branch"].decode() == branch for stored in hashes)
            assert f'<th scope="row">{name}</th><td>{number}</td>' in page
        with_tea = sum(b"cart:tea" in stored for stored in hashes)
        assert f'<th scope="row">Green tea</th><td>{with_tea}</td>' in page
        has_search = "Counted by Redis Search" in page
        assert has_search is not ("this Redis has no Search" in page)

        asked = operator.get("/operator/recall", params={"sku": "tea"}).text
        assert f"End {with_tea} sessions" in asked
        page = operator.post("/operator/recall", data={"sku": "tea"}).text
        assert '<th scope="row">Green tea</th><td>0</td>' in page
        assert f"<strong>{len(hashes) - with_tea}</strong> session" in page

        (handle, *_) = re.findall(r"/operator/end/([0-9a-f]{32})", page)
        assert client.exists(f"{prefix}:{handle}")
        operator.post(f"/operator/end/{handle}")
        assert not client.exists(f"{prefix}:{handle}")
        assert operator.get("/operator/recall", params={"sku": "gold"}).status_code == 404


def test_another_sites_form_is_refused(url: str) -> None:
    """The shop's forms have no tokens: the browser says where a request comes from."""
    with httpx.Client(base_url=url, timeout=PATIENCE) as browser:
        browser.post("/login", data={"name": "Ann"})
        elsewhere = {"sec-fetch-site": "cross-site"}
        assert browser.post("/logout", headers=elsewhere).status_code == 403
        assert browser.get("/api/session").json()["user"] == "Ann"


def test_a_page_that_is_open_keeps_no_session_alive(url: str, admin: Any, prefix: str) -> None:
    """What it asks by itself extends nothing; whoever has no session is not followed."""
    with httpx.Client(base_url=url, timeout=PATIENCE) as browser:
        assert browser.get("/live/shop").status_code == 204
        browser.post("/cart/tea", data={"by": "1"})
        (key,) = session_keys(admin, prefix)
        admin.expire(key, 100)
        with browser.stream("GET", "/live/operator") as live:
            lines = live.iter_lines()
            (first, _, second) = next(lines), next(lines), next(lines)
        assert json.loads(first.removeprefix("data: "))["parts"].keys() == PARTS
        assert json.loads(second.removeprefix("data: "))["parts"].keys() < PARTS
        assert browser.get("/session/left").json()["seconds"] <= 100
        assert admin.ttl(key) <= 100
        assert browser.get("/session/stay").json()["seconds"] > 100


@pytest.mark.parametrize("refused", ["hgetall", "zrevrangebyscore"])
def test_a_page_that_is_open_outlives_an_outage(refused: str, prefix: str) -> None:
    """Redis refuses what the page asks, then allows it again: the page is followed on."""
    with DevServer(search=False) as server, redis.Redis.from_url(server.url) as admin:
        with serve(make_app(server.url, prefix=prefix)) as url:
            with httpx.Client(base_url=url, timeout=PATIENCE) as browser:
                browser.post("/login", data={"name": "Ann"})
                with browser.stream("GET", "/live/devices") as live:
                    lines = (line for line in live.iter_lines() if line)
                    assert "devices" in next(lines)
                    admin.acl_setuser("default", commands=[f"-{refused}"])
                    wait_for(lambda: bool(admin.acl_log()))
                    admin.acl_setuser("default", commands=[f"+{refused}"])
                    browser.post("/cart/tea", data={"by": "1"})
                    assert any("cart:tea" in line for line in lines)


def test_only_ones_own_devices_can_be_ended(url: str) -> None:
    """A handle in a form is worth nothing to another user; ending the others spares this one."""
    with ExitStack() as stack:
        laptop, phone, bob = [
            stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE)) for _ in range(3)
        ]
        for browser, name in ((laptop, "Ann"), (phone, "Ann"), (bob, "Bob")):
            browser.post("/login", data={"name": name})
        (handle,) = re.findall("/devices/([0-9a-f]{32})/end", laptop.get("/devices").text)
        assert bob.post(f"/devices/{handle}/end").status_code == 303
        assert phone.get("/api/session").json() == {"user": "Ann"}
        laptop.post("/devices/end-others")
        assert laptop.get("/api/session").json() == {"user": "Ann"}
        gone = phone.get("/devices")
        assert (gone.status_code, phone.get("/api/session").json()) == (401, NOBODY)
        assert "Ann ended all other devices" in gone.text
        assert phone.post("/devices/end-all").headers["location"] == "/login"

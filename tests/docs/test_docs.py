"""Every command and every block of code in the documents is run here, and shows what they say."""

import asyncio
import gc
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, Self

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_redis_session import (
    CookiePolicy,
    Durability,
    DurabilityNotReached,
    Key,
    Lifetime,
    Limits,
    Num,
    Session,
    SessionGone,
    SessionMiddleware,
    SessionStore,
    SessionUnavailable,
    Tag,
    Text,
)
from asgi_redis_session.devserver import DevServer
from asgi_redis_session.fastapi import (
    CurrentUser,
    SessionDep,
    require_fresh,
    session_dep,
    user_dep,
)
from asgi_redis_session.oidc import BackchannelLogout
from asgi_redis_session.testing import SessionKit

from ..support.documents import BLOCK, ROOT, blocks, guide
from ..support.internals import open_session
from ..support.keyspace import forget, session_keys
from ..support.servers import plain_client
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN
from ..users import test_oidc as oidc
from .test_first_steps import check_what_is_installed

pytestmark = pytest.mark.anywhere

REPOSITORY = "https://github.com/asgi-redis-session/asgi-redis-session"

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")
), "benchmarks/README.md"]  # fmt: skip


#: How many blocks of each kind this module runs; a new one must be added here, and run. The two
#: pages that grow with each option are not counted: tests find out which of their blocks are run.
NOT_COUNTED = {
    ("docs/guide.md", "python"),  # test_every_block_of_the_guide_is_run
    ("docs/recipes.md", "python"),  # tests/examples/test_recipes.py
}
BLOCKS = {
    ("README.md", "sh"): 3,
    ("README.md", "python"): 1,
    ("README.md", "console"): 2,
    ("CONTRIBUTING.md", "sh"): 1,
    ("CONTRIBUTING.md", "python"): 1,
    ("docs/durability.md", "python"): 1,
    ("docs/encryption.md", "python"): 1,  # tests/encryption
    ("docs/privacy.md", "python"): 2,  # tests/users/test_privacy.py
    ("docs/moving.md", "python"): 4,  # test_moving
    ("docs/performance.md", "python"): 1,
    ("benchmarks/README.md", "sh"): 2,
    # tests/deployment
    ("docs/deployment.md", "conf"): 5,
    ("docs/deployment.md", "console"): 1,
    ("docs/deployment.md", "python"): 10,
    ("docs/deployment.md", "text"): 1,
    # tests/gateways
    ("docs/gateways.md", "console"): 1,
    ("docs/gateways.md", "text"): 1,
    ("docs/gateways.md", "python"): 1,
    ("docs/gateways.md", "nginx"): 1,
    ("docs/gateways.md", "caddy"): 1,
    ("docs/gateways.md", "haproxy"): 1,
    ("docs/gateways.md", "lua"): 1,
    ("docs/gateways.md", "yaml"): 3,  # parsed only: said there
    ("docs/cli.md", "console"): 7,  # tests/cli
    ("docs/errors.md", "console"): 1,  # test_site.py
    # test_first_steps.py
    ("docs/quickstart.md", "sh"): 2,
    ("docs/quickstart.md", "console"): 1,
    ("docs/quickstart.md", "python"): 4,
    ("docs/tutorial.md", "sh"): 4,
    ("docs/tutorial.md", "console"): 7,
    ("docs/tutorial.md", "python"): 8,
    # tests/observability
    ("docs/observability.md", "python"): 3,
    ("docs/observability.md", "console"): 2,
    ("docs/search.md", "python"): 4,
    ("docs/search.md", "sh"): 2,
    ("docs/search.md", "text"): 1,  # tests/cluster/test_search.py
}


def test_every_block_is_known() -> None:
    """No block of code stands in a document without a test that runs it."""
    found: dict[tuple[str, str], int] = {}
    for document in DOCUMENTS:
        for kind, _ in BLOCK.findall((ROOT / document).read_text()):
            found[document, kind] = found.get((document, kind), 0) + 1
    assert found.keys() >= NOT_COUNTED
    assert {of: n for of, n in found.items() if of not in NOT_COUNTED} == BLOCKS


def test_every_block_of_the_guide_is_run() -> None:
    """Each is taken by a text that it contains, in a test of this folder."""
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    taken = [text for _, text in re.findall(r"""\bguide\((["'])(.+?)\1\)""", sources)]
    assert len(taken) > 20
    assert [
        block for block in blocks("docs/guide.md", "python") if not any(t in block for t in taken)
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    """Links between documents, examples and modules, relative or absolute, lead to files."""
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / document).parent / target).exists(), target
    for target in re.findall(re.escape(REPOSITORY) + r"/(?:blob|tree)/main/([^)#\s]+)", text):
        assert (ROOT / target).exists(), target


def test_the_readme_has_no_relative_links() -> None:
    """PyPI shows the README alone, so its links need their full address."""
    assert not re.findall(r"\]\((?!https?:)[^)]+", (ROOT / "README.md").read_text())


@pytest.mark.parametrize(
    "command",
    [
        line
        for document in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
        for block in blocks(document, "sh")
        for line in block.splitlines()
    ],
)
def test_every_command_exists(command: str) -> None:
    """Each `make` target exists (test_examples runs the demo), and so does what pip installs."""
    words = shlex.split(command)
    if words[0] == "make":
        words.insert(1, "-n")
    elif words[0] == "uvicorn":
        assert words == ["uvicorn", "app:app"]  # the fixture `readme` serves that app
        return
    elif words[0] == "locust":
        words = [sys.executable, "-m", *words, "--list"]  # test_locust.py runs it
    elif words[2] == "asgi_redis_session.devserver":
        assert words[3:] == ["--port", "6379"]  # tests/testing/test_devserver.py runs the command
        words = [sys.executable, *words[1:3], "--help"]
    else:
        check_what_is_installed(command)  # `make dist` installs it
        return
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=200)


@pytest.fixture
def readme(session_redis_url: str, admin: Any) -> Iterator[tuple[str, Any]]:
    """The README's app behind uvicorn, on the test's Redis; yields its URL and the client."""
    (code,) = blocks("README.md", "python")
    assert code.count("redis://localhost:6379/0") == 1
    namespace: dict[str, Any] = {}
    exec(code.replace("redis://localhost:6379/0", session_redis_url), namespace)
    forget(admin, "session")  # other tests use the default prefix, too
    with serve(namespace["app"]) as url:
        yield url, admin
    forget(admin, "session")


def masked(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    text = re.sub(r"session=[\w-]+…?", "session=ID", text)
    text = re.sub(r"\b\d{13}\b", "INSTANT", text)
    return [line for line in text.splitlines() if not line.lower().startswith(("date:", "server:"))]


def test_the_readmes_transcripts_are_true(readme: tuple[str, Any]) -> None:
    """`curl -i` and `HGETALL` print what the README shows."""
    url, admin = readme
    curl, hgetall = blocks("README.md", "console")
    command, _, expected = curl.partition("\n")
    words = shlex.split(command.removeprefix("$ ").replace("localhost:8000", url))
    printed = subprocess.run([*words, "-s"], check=True, capture_output=True, text=True).stdout
    assert masked(printed) == masked(expected)

    (key,) = session_keys(admin, "session")
    assert re.fullmatch(rb"session:[0-9a-f]{32}", key)
    command, _, expected = hgetall.partition("\n")
    assert re.fullmatch(r"\$ redis-cli HGETALL session:[0-9a-f]{32}", command)
    lines = [
        part.decode().replace('"', r"\"") for pair in admin.hgetall(key).items() for part in pair
    ]
    printed = "\n".join(f'{number}) "{line}"' for number, line in enumerate(lines, 1))
    assert masked(printed) == masked(expected)


def test_the_readmes_cart_loses_no_item(readme: tuple[str, Any]) -> None:
    """Fifty requests at once, of five kinds of tea, are all in the cart."""
    url, admin = readme
    with httpx.Client(base_url=url) as browser:
        browser.post("/cart/green")
        cookies = dict(browser.cookies)

    def add(number: int) -> int:
        sku = ["green", "black", "white", "oolong", "mint"][number % 5]
        return httpx.post(f"{url}/cart/{sku}", cookies=cookies, timeout=PATIENCE).status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(add, range(50))) == {200}
    (key,) = session_keys(admin, "session")
    cart = {name: n for name, n in admin.hgetall(key).items() if name.startswith(b"cart:")}
    assert sorted(cart.values()) == [b"10", b"10", b"10", b"10", b"11"]


def test_contributings_sample_is_the_code() -> None:
    """The sample docstring is the one that stands in session.py."""
    (sample,) = blocks("CONTRIBUTING.md", "python")
    source = (ROOT / "asgi_redis_session/session.py").read_text()
    assert "\n".join(f"    {line}".rstrip() for line in sample.splitlines()) in source


def test_the_guides_endpoints_work(sessions: SessionKit) -> None:
    """Reading and writing as the guide shows it."""
    namespace: dict[str, Any] = {"JSONResponse": JSONResponse}
    exec(guide("def profile("), namespace)
    exec(guide("def add("), namespace)
    routes = [Route(f"/{name}", namespace[name]) for name in ("profile", "add")]
    app = SessionMiddleware(Starlette(routes=routes), store=sessions.store, cookie=PLAIN)
    cookies = sessions.cookies({"flash": "hello", "views": 1}, cookie=PLAIN)
    with TestClient(app, cookies=cookies) as client:
        assert client.get("/profile").json() == {"theme": "light"}
        assert client.get("/add").json() == {"views": 2}
    assert sessions.read(cookies, cookie=PLAIN) == {"theme": "dark", "cart": ["tea"], "views": 2}


def test_the_guides_typed_cart_works(sessions: SessionKit) -> None:
    """A change inside is saved, and the next request gets a Cart again."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    names: dict[str, Any] = {
        "app": app,
        "Key": Key,
        "SessionDep": SessionDep,
        "dataclass": dataclass,
        "field": field,
        "datetime": datetime,
    }
    exec(guide("class Cart"), names)  # in a namespace of its own, as a module
    with TestClient(app) as client:
        client.post("/cart/tea")
        assert client.post("/cart/pot").json() == {"items": ["tea", "pot"], "since": None}
        stored = sessions.read(dict(client.cookies), cookie=PLAIN)
    assert stored == {"cart": {"items": ["tea", "pot"], "since": None}}


def test_the_guides_stores_work(session_redis_url: str) -> None:
    """The lifetime and the event hook as the guide shows them."""
    counted: list[str] = []

    class Metrics:
        increment = staticmethod(counted.append)

    namespace: dict[str, Any] = {
        "Lifetime": Lifetime,
        "SessionStore": SessionStore,
        "timedelta": timedelta,
        "metrics": Metrics,
    }
    exec(guide("refresh_after=60"), namespace)
    assert namespace["store"].lifetime.refresh_after_ms == 60_000
    events = guide("on_event=report")
    exec(events.replace("redis://localhost:6379/0", session_redis_url), namespace)

    async def use() -> None:
        async with namespace["store"] as store:
            assert not await open_session(store, "A" * 43).load()

    asyncio.run(use())
    assert counted == ["session.unknown_id"]


async def _keep_a_promise(prefix: str, code: str) -> dict[str, Any]:
    """Run the page's `pay` with a server that has a replica."""
    namespace: dict[str, Any] = {"SessionStore": SessionStore, "Durability": Durability}
    exec(code, namespace)
    assert namespace["store"].end_durability == Durability(replicas=1, timeout=0.5)
    quick = {"repl-diskless-sync-delay": 0}
    with DevServer(options=quick, search=False) as master:
        place = {"replicaof": f"127.0.0.1 {master.port}"}
        with DevServer(options=place, search=False):
            async with SessionStore.from_url(master.url, prefix=prefix) as store:
                session = await open_session(store).load()
                for _ in range(100):
                    with suppress(DurabilityNotReached):
                        await namespace["pay"](session)
                        return dict(session)
                raise AssertionError("the replica was never reached")


def test_the_durability_pages_save_is_replicated(prefix: str) -> None:
    """The store is made as the page shows it, and `pay` returns when a replica has the order."""
    (code,) = blocks("docs/durability.md", "python")
    assert asyncio.run(_keep_a_promise(prefix, code)) == {"order": 1001}


def test_the_guides_options_are_accepted(session_redis_url: str) -> None:
    """Cookie, prefix, secrets and limits as the guide shows them."""
    app = FastAPI()
    namespace: dict[str, Any] = {
        "app": app,
        "CookiePolicy": CookiePolicy,
        "Limits": Limits,
        "SessionMiddleware": SessionMiddleware,
        "SessionStore": SessionStore,
    }
    exec(guide("replaces_until="), changed := {**globals()})
    assert changed["cookie"].replaces == (CookiePolicy(),)
    code = guide("limits=Limits(")
    exec(code.replace("redis://localhost:6379/0", session_redis_url), namespace)

    @app.get("/")
    async def write(session: SessionDep) -> None:
        session.set_lifetime(idle=1, absolute=2)
        session["n"] = 1

    with TestClient(app, base_url="https://example.com") as client:
        cookie = client.get("/").headers["set-cookie"]
    assert cookie.startswith("__Secure-session=")
    assert cookie.endswith("; Path=/; Domain=example.com; Secure; HttpOnly; SameSite=Strict")


def test_the_guides_account_page_works(sessions: SessionKit) -> None:
    """Logging in, listing devices, ending one, and what needs a fresh login, as the guide shows."""

    class User:
        id = 7

    async def check_password(name: str, password: str) -> User:
        return User()

    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    namespace: dict[str, Any] = {
        "app": app,
        "check_password": check_password,
        "store": sessions.store,
        "timedelta": timedelta,
        "CurrentUser": CurrentUser,
        "Depends": Depends,
        "SessionDep": SessionDep,
        "require_fresh": require_fresh,
    }
    exec(guide("def devices("), namespace)
    with TestClient(app) as one:
        assert one.get("/devices").json()["detail"]["code"] == "login_required"
        login = {"name": "ada", "password": "x"}
        remembered = one.post("/login", params={**login, "remember": True})
        assert "Max-Age=5184000" in remembered.headers["set-cookie"]
        first = dict(one.cookies)
        one.cookies.clear()
        assert "Max-Age" not in one.post("/login", params=login).headers["set-cookie"]
        devices = one.get("/devices").json()
        assert [device["this"] for device in devices] == [True, False]
        assert one.delete(f"/devices/{devices[1]['handle']}").json() is True
        assert sessions.read(first, cookie=PLAIN) == {}
        assert one.post("/password").json() == {"ended": 0}


def test_the_guides_second_factor_is_asked_for(sessions: SessionKit) -> None:
    """A password is not enough for closing the account, and a code is."""

    async def check_code(user_id: str, code: str) -> None:
        assert (user_id, code) == ("7", "123456")

    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    namespace: dict[str, Any] = {
        "app": app,
        "check_code": check_code,
        "timedelta": timedelta,
        "CurrentUser": CurrentUser,
        "Depends": Depends,
        "SessionDep": SessionDep,
        "require_fresh": require_fresh,
    }
    exec(guide("def log_in_by_code("), namespace)

    @app.post("/login")
    async def log_in(session: SessionDep) -> None:
        await session.login(7)

    with TestClient(app) as client:
        client.post("/login")
        refused = client.delete("/account").json()["detail"]
        assert (refused["code"], refused["amr"]) == ("reauthentication_required", ["otp"])
        client.post("/login/code", params={"code": "123456"})
        assert client.delete("/account").json() == {"methods": ["pwd", "otp"]}


async def test_the_guides_app_notices_a_new_device(session_redis_url: str, prefix: str) -> None:
    """The second kind of device of a user is worth a mail, the first is not."""
    code = guide("remember_devices=").replace(
        '"redis://localhost:6379/0"', f'"{session_redis_url}", prefix="{prefix}"'
    )
    mails: SimpleQueue[tuple[str, str]] = SimpleQueue()
    namespace: dict[str, Any] = {
        "SessionStore": SessionStore,
        "mails": mails,
        "timedelta": timedelta,
    }
    exec(code, namespace)
    async with namespace["store"] as store:
        for agent in (b"Firefox/128.0", b"curl/8.5.0", b"curl/8.6.0"):
            session = open_session(store, origin=(None, ((b"user-agent", agent),)))
            await session.login("ann")
            await session.save()
            await store.drain()
            assert mails.empty() is (agent != b"curl/8.5.0")
            if not mails.empty():
                user_id, handle = mails.get()
                assert (user_id, handle) == ("ann", session.handle)


def test_the_guides_support_acts_for_a_user(sessions: SessionKit) -> None:
    """The administrator is who acts, and is shown."""

    async def check_may_act_for(admin: str, user_id: str) -> None:
        assert (admin, user_id) == ("7", "ann")

    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=sessions.store, cookie=PLAIN)
    namespace: dict[str, Any] = {
        "app": app,
        "check_may_act_for": check_may_act_for,
        "timedelta": timedelta,
        "CurrentUser": CurrentUser,
        "SessionDep": SessionDep,
    }
    exec(guide("def act_for("), namespace)

    @app.post("/login")
    async def log_in(session: SessionDep) -> None:
        await session.login(7)

    with TestClient(app) as client:
        client.post("/login")
        assert client.get("/whoami").json() == {"user": "7", "acting": None}
        client.post("/act-for/ann")
        assert client.get("/whoami").json() == {"user": "ann", "acting": "7"}


def test_the_guides_openapi_names_the_cookie() -> None:
    """The name of the policy, as the guide's dependencies say."""
    namespace: dict[str, Any] = {
        "Annotated": Annotated,
        "CookiePolicy": CookiePolicy,
        "Depends": Depends,
        "Session": Session,
        "session_dep": session_dep,
        "user_dep": user_dep,
    }
    exec(guide("session_dep(cookie_name="), namespace)
    app, user = FastAPI(), namespace["CurrentUser"]

    async def me(user_id: Any) -> str:
        return str(user_id)

    me.__annotations__ = {"user_id": user}
    app.get("/me")(me)
    schemes = app.openapi()["components"]["securitySchemes"]
    assert [scheme["name"] for scheme in schemes.values()] == ["__Host-sid"]


def test_the_guides_options_may_depend_on_the_request(sessions: SessionKit) -> None:
    """The guide's `apology` answers when Redis is down, and pages that need no session work."""

    async def read(request: Request) -> JSONResponse:
        return JSONResponse({"loaded": (await request.session.load()).loaded})  # type: ignore[attr-defined]

    async def about(request: Request) -> JSONResponse:
        return JSONResponse({"loaded": request.session.loaded})  # type: ignore[attr-defined]

    def make_app(store: SessionStore) -> Starlette:
        app = Starlette(routes=[Route("/poll", read), Route("/account", about)])
        namespace: dict[str, Any] = {
            "app": app,
            "store": store,
            "DurabilityNotReached": DurabilityNotReached,
            "JSONResponse": JSONResponse,
            "SessionMiddleware": SessionMiddleware,
            "SessionUnavailable": SessionUnavailable,
        }
        exec(guide("def apology("), namespace)
        return app

    cookies = sessions.cookies({"n": 1})
    with TestClient(make_app(sessions.store), base_url="https://app", cookies=cookies) as client:
        assert client.get("/poll").json() == {"loaded": True}
        assert client.get("/account").json() == {"loaded": True}
    down = SessionStore.from_url("redis://127.0.0.1:1/0")
    with TestClient(make_app(down), base_url="https://app", cookies=cookies) as client:
        answer = client.get("/poll")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "session"}


def test_the_guides_app_follows_an_openid_provider(sessions: SessionKit) -> None:
    """The callback logs in, and a logout token ends that session."""
    keys = {"keys": [oidc.RSA.as_dict(private=False)]}

    async def claims_of(_: Request) -> dict[str, str]:
        return {"iss": oidc.ISSUER, "sub": "u-1", "sid": "s-1"}

    class Client:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def get(self, url: str) -> Any:
            assert url == "https://id.example.com/jwks"
            return httpx.Response(200, json=keys)

    app = Starlette()
    namespace: dict[str, Any] = {
        "app": app,
        "store": sessions.store,
        "claims_of": claims_of,
        "httpx": type("httpx", (), {"AsyncClient": Client}),
        "BackchannelLogout": BackchannelLogout,
        "RedirectResponse": RedirectResponse,
    }
    exec(guide("BackchannelLogout("), namespace)
    app.add_route("/callback", namespace["callback"])
    app.add_middleware(SessionMiddleware, store=sessions.store)
    with TestClient(app, base_url="https://app", follow_redirects=False) as client:
        assert client.get("/callback").status_code == 303
        handle = sessions.handle_of(dict(client.cookies)) or ""
        assert sessions.info(handle) is not None
        token = {"logout_token": oidc.signed()}
        assert client.post("/oidc/logout/", data=token).status_code == 200
        assert sessions.info(handle) is None


def test_the_guides_app_notices_a_session_that_moves(sessions: SessionKit) -> None:
    """Another browser, or another network: not fresh any more. Another address of it: fresh."""

    async def fresh(request: Request) -> JSONResponse:
        return JSONResponse((await request.scope["session"].load()).is_fresh(3600))

    async def log_in(request: Request) -> JSONResponse:
        await request.scope["session"].login(1)
        return JSONResponse(None)

    app = Starlette(routes=[Route("/", fresh), Route("/in", log_in)])
    namespace: dict[str, Any] = {
        "app": app,
        "store": sessions.store,
        "ip_address": ip_address,
        "ip_network": ip_network,
        "SessionMiddleware": SessionMiddleware,
    }
    exec(guide("bind=browser_and_network"), namespace)
    firefox, chrome = "Mozilla/5.0 Gecko/20100101 Firefox/140.0", "Mozilla/5.0 Chrome/140.0"

    def client_at(address: str) -> TestClient:
        return TestClient(app, base_url="https://app", client=(address, 1))

    with client_at("192.0.2.1") as client:
        client.get("/in", headers={"user-agent": firefox})
        cookies = client.cookies
        newer = firefox.replace("140", "141")
        assert client.get("/", headers={"user-agent": newer}).json() is True
        assert client.get("/", headers={"user-agent": chrome}).json() is False
    for address, expected in (
        ("192.0.2.99", True),
        ("198.51.100.1", False),
        ("2001:db8::1", False),
    ):
        client = client_at(address)
        client.cookies = cookies
        assert client.get("/", headers={"user-agent": firefox}).json() is expected


def test_the_guides_app_refuses_other_sites(sessions: SessionKit) -> None:
    """A form of the trusted front end arrives, and one of another site does not."""

    async def buy(request: Request) -> JSONResponse:
        return JSONResponse(dict(await request.scope["session"].load()))

    app = Starlette(routes=[Route("/", buy, methods=["POST"])])
    namespace = {"app": app, "store": sessions.store, "SessionMiddleware": SessionMiddleware}
    exec(guide("cross_origin="), namespace)
    cookies = sessions.cookies({"n": 1})
    with TestClient(app, base_url="https://shop.example.com", cookies=cookies) as client:
        trusted = {"origin": "https://app.example.com", "sec-fetch-site": "same-site"}
        assert client.post("/", headers=trusted).json() == {"n": 1}
        assert client.post("/", headers={"origin": "https://evil.example"}).status_code == 403


def test_the_guides_stream_extends_the_ttl(sessions: SessionKit) -> None:
    """The stream goes on while the session exists, and ends when it is revoked."""
    prices = iter("123")

    async def next_price() -> str:
        price = next(prices)
        if price == "3":
            (info,) = await sessions.store.users.list(7)
            await sessions.store.revoke(info.handle)
        return price

    namespace: dict[str, Any] = {
        "StreamingResponse": StreamingResponse,
        "next_price": next_price,
    }
    exec(guide("def prices("), namespace)
    routes = [Route("/", namespace["prices"])]
    app = SessionMiddleware(Starlette(routes=routes), store=sessions.store, cookie=PLAIN)
    with TestClient(app, cookies=sessions.cookies(user=7, cookie=PLAIN)) as client:
        assert client.get("/").text == "data: 1\n\ndata: 2\n\ndata: 3\n\n"


def test_the_guides_job_changes_every_session_of_a_user(
    session_redis_url: str, prefix: str
) -> None:
    """`store.edit` by the handles of the user's list."""

    async def use() -> list[dict[str, Any]]:
        async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
            for _ in range(2):
                async with store.open("", cookie=PLAIN) as opened:
                    await opened.session.login(7)
            namespace: dict[str, Any] = {"store": store, "SessionGone": SessionGone}
            exec(guide("store.edit("), namespace)
            await namespace["give_voucher"](7, "SPRING")
            fields = [info.fields for info in await store.users.list(7)]
            await store.users.revoke_all(7)
            return fields

    assert asyncio.run(use()) == [{"voucher": "SPRING"}] * 2


def test_the_guide_ends_what_came_from_a_network(
    session_redis_url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`store.revoke_where`, after a dry run; `store.scan` finds none that was forgotten."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["session"].login(scope["path"])
        await JSONResponse({})(scope, receive, send)

    async def use() -> None:
        async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
            for address in ("203.0.113.9", "203.0.113.77", "192.0.2.1"):
                middleware = SessionMiddleware(app, store=store, cookie=PLAIN)
                transport = httpx.ASGITransport(middleware, client=(address, 0))
                async with httpx.AsyncClient(transport=transport) as client:
                    await client.get(f"http://test/{address}")
            namespace: dict[str, Any] = {
                "store": store,
                "timedelta": timedelta,
                "ip_address": ip_address,
            }
            exec(guide("store.revoke_where("), namespace)
            assert await namespace["end_attack"](ip_network("203.0.113.0/24")) == 2
            assert await store.count() == 1
            assert await namespace["forgotten"]() == []

    asyncio.run(use())
    assert capsys.readouterr().out == "2 of 3 sessions come from 203.0.113.0/24.\n"


async def test_the_guides_app_reports_what_expires(prefix: str) -> None:
    """In its lifespan, on a server that reports it."""
    events: list[Any] = []
    server = DevServer(options={"notify-keyspace-events": "Ex"}, search=False)
    with server, plain_client(server.url) as admin:
        async with SessionStore.from_url(
            server.url, prefix=prefix, on_event=events.append
        ) as store:
            names: dict[str, Any] = {"store": store, "asynccontextmanager": asynccontextmanager}
            exec(guide("store.reporting_expired("), names)
            async with names["lifespan"](None), asyncio.timeout(PATIENCE):
                while not any(event.name == "expired" for event in events):
                    async with store.open("", cookie=PLAIN) as opened:
                        opened.session["n"] = 1
                    for key in session_keys(admin, prefix):
                        admin.pexpire(key, 1)
                    await asyncio.sleep(0.05)


def test_the_guides_session_works_without_a_framework(session_redis_url: str, prefix: str) -> None:
    """`store.open` counts visits, and gives a cookie for the first one."""

    async def use() -> None:
        async with SessionStore.from_url(session_redis_url, prefix=prefix) as store:
            namespace: dict[str, Any] = {"store": store, "CookiePolicy": CookiePolicy}
            exec(guide("store.open("), namespace)
            visits, set_cookie = await namespace["handle"]("")
            assert visits == 1
            sent = set_cookie if isinstance(set_cookie, str) else set_cookie.decode()
            assert await namespace["handle"](sent.partition(";")[0]) == (2, None)

    asyncio.run(use())


def test_the_guides_test_works(session_redis_url: str, tmp_path: Path) -> None:
    """The test that the guide shows passes in a user's suite."""
    code = guide("pytest_plugins")
    plugins, _, test = code.partition("\n\n\n")
    (tmp_path / "conftest.py").write_text(plugins)
    (tmp_path / "test_app.py").write_text(
        """
from asgi_redis_session import SessionMiddleware
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient


async def add(request):
    (await request.session.load()).setdefault("cart", []).append(request.path_params["sku"])
    return PlainTextResponse("added")


def make_app(store):
    routes = [Route("/cart/{sku}", add, methods=["POST"])]
    return SessionMiddleware(Starlette(routes=routes), store=store)


"""
        + test
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={"SESSION_REDIS_URL": session_redis_url, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


@pytest.mark.needs_search
def test_searchs_questions_are_answered(
    session_redis_url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Declaring, asking, and declaring anew, as docs/search.md shows it."""
    declare, ask, metadata, redeclare = blocks("docs/search.md", "python")
    namespace: dict[str, Any] = {
        "Num": Num,
        "SessionStore": SessionStore,
        "Tag": Tag,
        "Text": Text,
        "UTC": UTC,
        "datetime": datetime,
        "ip_network": ip_network,
        "timedelta": timedelta,
    }
    url = f'"{session_redis_url}",\n    prefix="{prefix}"'
    for code in (declare.replace('"redis://localhost:6379/0"', url), ask, metadata, redeclare):
        exec(code, namespace)

    async def use() -> None:
        async with namespace["store"] as store:
            await namespace["deploy"]()
            await namespace["deploy"]()
            session = open_session(store, origin=(("203.0.113.9", 1), ()))
            await session.login("ada")
            session.update(tenant="acme", skus=["SKU-1"], total=100.5, note="Deliver on Monday")
            await session.save()
            where = namespace["from_this_network"] & namespace["logged_in_today"]
            assert await store.search.count(where & (Text("note") == "monday")) == 1
            await namespace["redeploy"]()
            await namespace["answers"](store.search)
            await store.search.drop_index()
            shown = capsys.readouterr().out.splitlines()
            assert shown[-5:] == [
                "1",
                f"{session.handle} ada {{'total': 100.5}}",
                "{'acme': 1}",
                "{'acme': 100.5}",
                "1",
            ]
            assert re.fullmatch(r"1 looked at, 0 written, to go on from 0", shown[-6])

    asyncio.run(use())


@pytest.mark.needs_search
def test_searchs_figures_can_be_measured(tmp_path: Path) -> None:
    """The command that stands beside the figures runs, and prints the rows of the table."""
    command, _ = blocks("docs/search.md", "sh")
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "benchmarks.search"]
    assert words[3:-1] == ["10000", "100000", "1000000", "--plot"]
    words = [sys.executable, *words[1:3], "500", "--plot", str(tmp_path / "search.png")]
    run = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200)
    rows = re.compile(r"^\| ([^|]+) \|", re.MULTILINE)
    published = rows.findall((ROOT / "docs/search.md").read_text())
    assert set(rows.findall(run.stdout)[1:]) <= set(published)
    assert (tmp_path / "search.png").stat().st_size > 10_000


@pytest.mark.needs_search
def test_searchs_figures_of_a_cluster_can_be_measured() -> None:
    """The command beside them runs, and prints the rows of the table."""
    _, command = blocks("docs/search.md", "sh")
    words = shlex.split(command)
    assert words == ["python", "-m", "benchmarks.search", "10000", "100000", "--masters", "3"]
    words = [sys.executable, *words[1:3], "500", *words[-2:]]
    run = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200)
    table = run.stdout.partition("500 sessions\n\n")[2]
    head, _, rows = table.partition("\n")
    page = (ROOT / "docs/search.md").read_text()
    assert head in page
    for row in rows.splitlines()[1:]:
        assert f"\n{row.partition(' | ')[0]} | " in page


async def test_the_recipe_against_pauses_works() -> None:
    """The lifespan of docs/performance.md freezes what exists, and collects the rest less often."""
    (code,) = blocks("docs/performance.md", "python")
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    thresholds = gc.get_threshold()
    try:
        async with namespace["lifespan"](object()):
            assert gc.get_freeze_count() > 10_000
            assert gc.get_threshold() == (50_000, 20, 100)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)

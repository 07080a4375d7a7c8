"""The examples, each run as its reader would run it, and what is then in Redis."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from asgi_redis_session.devserver import DevServer

from ..support.keyspace import session_keys
from ..support.serving import serve

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parents[2]


FILES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_file())


TO_RUN = ["bare_asgi", "counter", "devices", "dropin", "fastapi_cart", "shop", "websocket"]


NOTHING_LISTENS = "redis://127.0.0.1:1/0"


Database = Any  # redis-py declares the answers of both its clients in one type


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def database(session_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database that $REDIS_URL names: the examples share the default prefix."""
    url = urlsplit(session_redis_url)._replace(path="/9").geturl()
    monkeypatch.setenv("REDIS_URL", url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield client
        client.flushdb()


def app_of(name: str) -> Any:
    """The app of this example, made with the environment of this test."""
    sys.modules.pop(f"examples.{name}", None)
    if name in ("dropin", "shop"):  # their cookies warn of nothing
        return importlib.import_module(f"examples.{name}").app
    with pytest.warns(UserWarning, match="for_development"):
        return importlib.import_module(f"examples.{name}").app


def only_session(database: Database, idle: int = 1800) -> dict[bytes, bytes]:
    """The user's fields of the one session that there is."""
    (key,) = session_keys(database, "session")
    assert 0 < database.ttl(key) <= idle
    return {n: v for n, v in database.hgetall(key).items() if not n.startswith(b"@")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    """No file of the examples has 80 lines."""
    assert len(path.read_text("utf-8").splitlines()) < 80


@pytest.mark.parametrize("name", TO_RUN)
def test_examples_say_how_to_run_them(name: str) -> None:
    """Each docstring asks a question, and has the command that runs the example."""
    doc = ast.get_docstring(ast.parse((ROOT / "examples" / f"{name}.py").read_text("utf-8")))
    assert doc
    assert "?" in doc.splitlines()[0]
    assert f"\n    uvicorn examples.{name}:app" in doc


def test_the_counter_counts_each_browser_by_itself(database: Database) -> None:
    """The number of visits is a field in Redis, and another browser has its own."""
    with serve(app_of("counter")) as url, httpx.Client(base_url=url) as browser:
        texts = [browser.get("/").text for _ in range(3)]
        assert texts == ["Visit 1\n", "Visit 2\n", "Visit 3\n"]
        assert only_session(database) == {b"visits": b"3"}
        assert httpx.get(url).text == "Visit 1\n"
    assert len(session_keys(database)) == 2


def test_the_counters_other_page_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis, the page that asks for no session is served; the one that does is 503."""
    monkeypatch.setenv("REDIS_URL", NOTHING_LISTENS)
    cookies = {"session": "A" * 43}
    with serve(app_of("counter")) as url, httpx.Client(base_url=url, cookies=cookies) as browser:
        about = browser.get("/about")
        assert about.status_code == 200
        assert {"set-cookie", "vary"}.isdisjoint(about.headers)
        assert browser.get("/").status_code == 503


def used_as_a_visitor_would(url: str) -> list[str]:
    """What the pages of `dropin` say, from the log-in to after the log-out."""
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        return [
            browser.get("/").text,
            browser.post("/login", data={"name": "<Ann>"}).text,
            browser.get("/").text,
            browser.post("/logout").text,
            browser.get("/").text,
        ]


def test_dropin_keeps_its_session_in_redis(database: Database) -> None:
    """Plain mapping access reads and writes the session, and `clear()` ends it."""
    with serve(app_of("dropin")) as url:
        with httpx.Client(base_url=url, follow_redirects=True) as browser:
            browser.post("/login", data={"name": "Ann"})
            assert only_session(database, 14 * 24 * 3600) == {b"user": b"Ann"}
        database.flushdb()
        before, after, later, out, _ = used_as_a_visitor_would(url)
    assert "Hello stranger" in before
    assert "Hello &lt;Ann&gt;" in after
    assert "You are logged in." in after
    assert "You are logged in." not in later
    assert "Hello stranger" in out
    assert session_keys(database) == []


def test_dropin_differs_from_the_old_app_by_an_import_and_an_argument(
    database: Database,
) -> None:
    """With the two old lines put back, Starlette's middleware gives the same pages."""
    source = (ROOT / "examples" / "dropin.py").read_text("utf-8")
    old_import, old_line = re.findall(r"^# .*`(.+)`", source, re.MULTILINE)
    old = re.sub(
        r"^from asgi_redis_session\.dropin import .*$", old_import, source, flags=re.MULTILINE
    )
    old = re.sub(r"^app\.add_middleware\(.*\)$", old_line, old, flags=re.MULTILINE)
    assert "asgi_redis_session" not in old
    namespace: dict[str, Any] = {"__name__": "old"}
    exec(compile(old, "old.py", "exec"), namespace)
    with serve(namespace["app"]) as old_url, serve(app_of("dropin")) as new_url:
        assert used_as_a_visitor_would(old_url) == used_as_a_visitor_would(new_url)


def test_the_cart_sees_changes_deep_inside(database: Database) -> None:
    """A quantity that grows within a dict within a list is saved, and emptying it ends it."""
    with serve(app_of("fastapi_cart")) as url, httpx.Client(base_url=url) as browser:
        browser.post("/cart/items/tea")
        browser.post("/cart/items/jug")
        browser.post("/cart/items/tea", params={"quantity": 2})
        browser.put("/cart/voucher/SPRING")
        items = [{"sku": "tea", "quantity": 3}, {"sku": "jug", "quantity": 1}]
        stored = only_session(database)
        assert json.loads(stored.pop(b"items")) == items
        assert stored == {b"voucher": b"SPRING"}
        assert browser.get("/cart").json() == {"items": items, "voucher": "SPRING"}
        browser.delete("/cart")
        assert browser.get("/cart").json() == {"items": [], "voucher": None}
        assert not browser.cookies
    assert session_keys(database) == []


def test_the_draft_is_saved_while_the_socket_is_open(database: Database) -> None:
    """Each message is in Redis before it is confirmed; a session that has ended ends the socket."""
    draft = "</textarea><script>"
    with serve(app_of("websocket")) as url, httpx.Client(base_url=url) as browser:
        browser.get("/")
        headers = {"cookie": f"session={browser.cookies['session']}"}
        with connect(f"ws{url.removeprefix('http')}/draft", additional_headers=headers) as socket:
            socket.send(draft)
            assert socket.recv(10) == "19 characters saved."
            assert only_session(database) == {b"draft": draft.encode()}
            assert "&lt;/textarea&gt;&lt;script&gt;</textarea>" in browser.get("/").text
            database.flushdb()
            socket.send("too late")
            with pytest.raises(ConnectionClosed, match="Your session has ended"):
                socket.recv(10)
    assert session_keys(database) == []


def test_a_socket_without_a_session_is_refused(database: Database) -> None:
    """The handshake fails, and no session comes of it."""
    with serve(app_of("websocket")) as url, pytest.raises(InvalidStatus) as refused:
        connect(f"ws{url.removeprefix('http')}/draft")
    assert refused.value.response.status_code == 403
    assert session_keys(database) == []


def test_the_bare_app_remembers_and_forgets(database: Database) -> None:
    """Without a framework the session is in the scope, and `logout()` removes it from Redis."""
    with serve(app_of("bare_asgi"), lifespan="on") as url, httpx.Client(base_url=url) as browser:
        browser.get("/a")
        assert browser.get("/b").text == "You have been to /a, /b\n"
        assert only_session(database) == {b"pages": b'["/a","/b"]'}
        assert browser.get("/forget").text == "Forgotten.\n"
        assert not browser.cookies
        assert session_keys(database) == []
        assert browser.get("/c").text == "You have been to /c\n"


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def browse(database: Database) -> Iterator[Callable[..., httpx.Client]]:
    """Start a browser with this user agent at the account page, logged in under a name."""
    with ExitStack() as stack:
        url = stack.enter_context(serve(app_of("devices")))

        def start(agent: str, name: str | None = "Ann") -> httpx.Client:
            browser = httpx.Client(
                base_url=url, headers={"user-agent": agent}, follow_redirects=True
            )
            stack.enter_context(browser)
            if name is not None:
                browser.post("/login", data={"name": name})
            return browser

        yield start


def ends(browser: httpx.Client) -> list[str]:
    """Where the buttons of the account page lead that end another device."""
    return re.findall(r'action="(/devices/[0-9a-f]{32}/end)"', browser.get("/").text)


def age_logins(database: Database, hours: int) -> None:
    """Let every log-in have been so many hours ago."""
    for key in session_keys(database, "session"):
        if database.type(key) == b"hash":
            database.hincrby(key, "@auth", -hours * 3_600_000)


def test_the_account_page_lists_devices_and_ends_them(
    browse: Callable[..., httpx.Client],
) -> None:
    """Each device is there once, one of them is this one, and ending one logs it out."""
    laptop, phone, tablet = browse(FIREFOX), browse(IPHONE), browse("Tablet <b>")
    page = laptop.get("/").text
    assert page.count("this device") == 1
    assert page.count("<td>127.0.0.1") == 3
    assert "Firefox on Linux" in page
    assert "Mobile Safari on iOS" in page
    assert "Log out" in page
    _, ends_phone = ends(laptop)  # the latest log-in is the first
    laptop.post(ends_phone)
    assert len(ends(laptop)) == 1
    assert phone.get("/").status_code == 401
    assert "Log in" in phone.get("/").text
    assert tablet.get("/").status_code == 200


def test_the_account_page_ends_all_others(
    browse: Callable[..., httpx.Client], database: Database
) -> None:
    """One button leaves this device alone, and logging out leaves nothing in Redis."""
    laptop, phone, tablet = browse(FIREFOX), browse(IPHONE), browse(IPHONE)
    assert "this device" in laptop.post("/devices/end-others").text
    assert ends(laptop) == []
    assert [browser.get("/").status_code for browser in (laptop, phone, tablet)] == [200, 401, 401]
    assert laptop.post("/logout").status_code == 401
    assert not laptop.cookies
    assert session_keys(database) == []


def test_the_account_page_ends_no_device_of_somebody_else(
    browse: Callable[..., httpx.Client],
) -> None:
    """A handle in a form is worth nothing to another user, or to nobody."""
    laptop, phone = browse(FIREFOX), browse(IPHONE)
    (ends_phone,) = ends(laptop)
    assert browse(FIREFOX, "Bob").post(ends_phone).status_code == 200
    assert browse(FIREFOX, None).post(ends_phone).status_code == 401
    assert phone.get("/").status_code == 200


def test_the_account_page_escapes_what_users_send(browse: Callable[..., httpx.Client]) -> None:
    """Name and user agent are text, in elements and in attributes; there is no script."""
    browse('<i title="x">Agent', "<script>Ann</script>")
    page = browse(FIREFOX, "<script>Ann</script>").get("/").text
    assert "&lt;script&gt;Ann&lt;/script&gt;" in page
    assert 'aria-label="End: &lt;i title=&quot;x&quot;&gt;Agent"' in page
    assert "<script" not in page
    assert "<i" not in page


def test_deleting_the_account_asks_for_the_password_if_the_login_is_old(
    browse: Callable[..., httpx.Client], database: Database
) -> None:
    """Neither the question nor the deed comes through with an old log-in; a new one leads on."""
    laptop, phone = browse(FIREFOX), browse(IPHONE)
    assert "Delete your account?" in laptop.get("/delete").text
    age_logins(database, hours=1)
    assert laptop.get("/").status_code == 200
    for asked in (laptop.get("/delete"), laptop.post("/delete")):
        assert asked.status_code == 401
        assert 'type="password"' in asked.text
    assert "Delete your account?" in laptop.post("/password", data={"password": "x"}).text
    assert len(ends(phone)) == 1
    assert "Your account is deleted" in laptop.post("/delete").text
    assert not laptop.cookies
    assert phone.get("/").status_code == 401
    assert session_keys(database) == []


def recall(carts: int, url: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return subprocess.run(
        [sys.executable, "-m", "examples.recall", str(carts)],
        cwd=ROOT,
        env=environment if url is None else {**environment, "REDIS_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.needs_search
def test_the_recall_finds_what_a_scan_finds() -> None:
    """The carts that Search finds, SCAN finds, and revoke ends, are the same number; then none."""
    run = recall(3000)
    assert run.returncode == 0, run.stderr
    assert "█" * 40 + " 3,000 carts" in run.stdout
    searched, scanned, ended, left = re.findall(r"(\d+) +[\d.]+ ms$", run.stdout, re.MULTILINE)
    assert searched == scanned == ended
    assert left == "0"


def test_the_recall_says_what_it_needs() -> None:
    """On a server without Redis Search: one sentence, and nothing is filled."""
    with DevServer(search=False) as server:
        run = recall(10, server.url)
        assert run.returncode == 1
        assert run.stderr.startswith("This server has no Redis Search;")
        with redis.Redis.from_url(server.url) as client:
            assert client.dbsize() == 0

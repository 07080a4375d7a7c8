"""The recipes, each used over HTTP as its reader would use it, with the packages that it names."""

import ast
import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from asgi_redis_session import SessionStore

from ..support.documents import blocks
from ..support.keyspace import session_keys
from ..support.servers import wait_for
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN

pytestmark = pytest.mark.anywhere

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")

Database = Any  # redis-py declares the answers of both its clients in one type


@pytest.fixture
def database(session_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database that $REDIS_URL names: the recipes share the default prefix."""
    url = urlsplit(session_redis_url)._replace(path="/8").geturl()
    monkeypatch.setenv("REDIS_URL", url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield client
        client.flushdb()


def module_of(name: str) -> Any:
    """The recipe, made with the environment of this test."""
    sys.modules.pop(f"examples.recipes.{name}", None)
    plain = ("openid_provider", "several_apps", "two_sessions", "background_job", "session_ends")
    if name in plain:
        return importlib.import_module(f"examples.recipes.{name}")
    with pytest.warns(UserWarning, match="for_development"):
        return importlib.import_module(f"examples.recipes.{name}")


def app_of(name: str) -> Any:
    return module_of(name).app


def browser_at(url: str, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=PATIENCE, **options)


def fields(database: Database, prefix: str = "session") -> list[dict[bytes, bytes]]:
    """What the sessions hold in Redis, without metadata."""
    hashes = [key for key in session_keys(database, prefix) if database.type(key) == b"hash"]
    stored = [database.hgetall(key) for key in hashes]
    return [{n: v for n, v in each.items() if not n.startswith(b"@")} for each in stored]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_short_and_say_how_to_run_them(path: Path) -> None:
    """Less than 80 lines; the docstring asks a question, and has the command."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 80
    doc = ast.get_docstring(ast.parse(text))
    assert doc
    assert "?" in doc.partition("\n\n")[0]
    name = f"examples.recipes.{path.stem}"
    assert re.search(rf"\n    (uvicorn {name}:app|python -m {name})", doc)


def test_the_page_shows_what_the_files_have() -> None:
    """Each block stands in the file that is linked above it, and each file has its place."""
    page = (ROOT / "docs/recipes.md").read_text("utf-8")
    linked = re.findall(r"\]\(\.\./examples/recipes/(\w+)\.py\)", page)
    assert sorted(linked) == [path.stem for path in RECIPES]
    parts = re.split(r"\]\(\.\./examples/recipes/(\w+\.py)\)", page)
    shown = 0
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            assert block in (FOLDER / name).read_text("utf-8"), name
            shown += 1
    assert shown == len(blocks("docs/recipes.md", "python"))


def test_authlib_logs_in(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is in the session and used once; the login gives a new id; the logout ends it."""
    with serve(app_of("openid_provider")) as provider:
        monkeypatch.setenv("OPENID", f"{provider}/.well-known/openid-configuration")
        with serve(app_of("authlib_login")) as url, browser_at(url) as browser:
            assert browser.get("/").json() == {"user": None, "email": None}
            asked = browser.get("/login")
            planted = browser.cookies["session"]
            (state,) = parse_qs(urlsplit(asked.headers["location"]).query)["state"]
            assert [*fields(database)[0]] == [f"_state_provider_{state}".encode()]
            answered = httpx.get(asked.headers["location"]).headers["location"]
            assert browser.get(answered).status_code == 303
            assert browser.cookies["session"] != planted
            assert browser.get("/").json() == {"user": "ada", "email": "ada@example.com"}
            assert fields(database) == [{b"email": b"ada@example.com"}]
            browser.post("/logout")
            assert browser.get("/").json() == {"user": None, "email": None}
            assert not browser.cookies
    assert session_keys(database) == []


def test_authlib_refuses_another_browsers_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that this browser has not asked for logs nobody in."""
    with serve(app_of("openid_provider")) as provider:
        monkeypatch.setenv("OPENID", f"{provider}/.well-known/openid-configuration")
        with serve(app_of("authlib_login")) as url:
            with browser_at(url) as attacker:
                asked = attacker.get("/login")
                answered = httpx.get(asked.headers["location"]).headers["location"]
            with browser_at(url) as victim:
                assert victim.get(answered).status_code == 400
                assert victim.get("/").json()["user"] is None


def test_sqladmin_shares_the_apps_login(database: Database) -> None:
    """One session, one cookie, and the user's list of sessions has it."""
    app = app_of("sqladmin_admin")
    with serve(app) as url, browser_at(url, follow_redirects=True) as browser:
        assert "/admin/login" in str(browser.get("/admin/").url)
        wrong = browser.post("/admin/login", data={"username": "ada", "password": "no"})
        assert wrong.status_code == 400
        page = browser.post("/admin/login", data={"username": "ada", "password": "hush"})
        assert page.status_code == 200
        assert "/admin/login" not in str(page.url)
        assert [*browser.cookies] == ["session"]
        browser.post("/admin/product/create", data={"sku": "TEA-1"})
        assert "TEA-1" in browser.get("/admin/product/list").text
        assert fields(database) == [{b"is_admin": b"true"}]
        assert len(database.keys("session:user:*")) == 1
        assert "/admin/login" in str(browser.get("/admin/logout").url)
        assert "/admin/login" in str(browser.get("/admin/").url)
    assert session_keys(database) == []


def test_starlette_admin_uses_the_session(database: Database) -> None:
    """Wrong passwords log nobody in; "remember me" is a longer life; logging out ends it."""
    with serve(app_of("starlette_admin_admin")) as url:
        with browser_at(url, follow_redirects=True) as browser:
            page = browser.get("/admin/")
            assert "/admin/login" in str(page.url)

            def post(path: str, **form: str) -> httpx.Response:
                token = browser.cookies["starlette_admin_csrftoken"]
                return browser.post(path, data=form, headers={"X-CSRFToken": token})

            wrong = post("/admin/login", username="ada", password="no")
            assert wrong.status_code == 400
            assert session_keys(database) == []
            form = {"username": "ada", "password": "hush", "remember_me": "on"}
            answer = post("/admin/login", **form)
            assert answer.history[0].headers["set-cookie"].count("Max-Age=5184000") == 1
            assert "/admin/login" not in str(browser.get("/admin/").url)
            (key,) = [k for k in session_keys(database) if database.type(k) == b"hash"]
            assert database.ttl(key) > 13 * 24 * 3600
            post("/admin/logout")
            assert "/admin/login" in str(browser.get("/admin/").url)
    assert session_keys(database) == []


def test_a_flash_message_is_shown_once(database: Database) -> None:
    """Of many pages that load at once, one shows it; two that are set at once are both shown."""
    with serve(app_of("flash_messages")) as url, browser_at(url) as browser:
        browser.post("/save")
        cookies = dict(browser.cookies)

        def page(_: int) -> str:
            return httpx.get(url, cookies=cookies, timeout=PATIENCE).text

        def save(_: int) -> None:
            httpx.post(f"{url}/save", cookies=cookies, timeout=PATIENCE)

        with ThreadPoolExecutor(8) as pool:
            assert "".join(pool.map(page, range(8))).count("Saved.") == 1
            list(pool.map(save, range(8)))
        assert browser.get("/").text.count("Saved.") == 8
        assert browser.get("/").text.count("Saved.") == 0


def test_a_code_works_once_and_for_three_tries(database: Database) -> None:
    """And not after its end."""

    def code_for(browser: httpx.Client) -> str:
        browser.post("/code", params={"address": "ada@example.com"})
        (raw,) = [raw for key in session_keys(database) if (raw := database.hget(key, "@=code"))]
        return str(json.loads(raw)[1])

    def tries(browser: httpx.Client, *codes: str) -> list[int]:
        return [browser.post("/login", params={"code": code}).status_code for code in codes]

    with serve(app_of("one_time_code")) as url:
        with browser_at(url) as browser:
            code = code_for(browser)
            assert tries(browser, "wrong", code, code) == [401, 200, 401]
            database.flushdb()
        with browser_at(url) as browser:
            code = code_for(browser)
            assert tries(browser, "1", "2", "", code, code) == [401] * 5
            code = code_for(browser)
            (key,) = session_keys(database)
            database.hset(key, "@-code", "1")
            assert tries(browser, code, "") == [401, 401]
            code = code_for(browser)
            cookies = dict(browser.cookies)

            def log_in(_: int) -> int:
                answer = httpx.post(f"{url}/login", params={"code": code}, cookies=cookies)
                return answer.status_code

            with ThreadPoolExecutor(3) as pool:
                assert sorted(pool.map(log_in, range(3))).count(200) == 1


def test_a_typed_cart_is_saved_and_upgraded(database: Database) -> None:
    """Decimals and instants in readable JSON; what changes inside is saved; old carts are read."""
    with serve(app_of("typed_cart")) as url, browser_at(url) as browser:
        assert browser.get("/cart").json() == "0"
        assert session_keys(database) == []
        browser.post("/cart/tea", params={"price": "4.50"})
        added = browser.post("/cart/pot", params={"price": "20.05"}).json()
        assert [item["sku"] for item in added["items"]] == ["tea", "pot"]
        assert browser.get("/cart").json() == "24.55"
        (stored,) = fields(database)
        assert re.fullmatch(
            rb'{"items":\[{"sku":"tea","price":"4.50","added":"[-\dT:.]+Z"},{"sku":"pot",.*}\]}',
            stored[b"cart"],
        )
        (key,) = session_keys(database)
        database.hset(key, "cart", '["old"]')
        browser.post("/cart/tea", params={"price": "1"})
        assert browser.get("/cart").json() == "1"
        assert b'"sku":"old"' in fields(database)[0][b"cart"]
        browser.delete("/cart")
        assert browser.get("/cart").json() == "0"


def test_the_last_ten_products_are_shown(database: Database) -> None:
    """In all tabs that load at once; the oldest ones go."""
    with serve(app_of("recently_viewed")) as url, browser_at(url) as browser:
        browser.get("/products/first")
        cookies = dict(browser.cookies)

        def look(number: int) -> None:
            httpx.get(f"{url}/products/{number}", cookies=cookies, timeout=PATIENCE)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(look, range(9)))
        seen = browser.get("/seen").json()
        assert sorted(seen) == [*map(str, range(9)), "first"]
        browser.get("/products/last")
        assert browser.get("/seen").json() == ["last", *seen[:9]]


def test_a_form_needs_the_token_of_its_session(database: Database) -> None:
    """The token of the page is accepted; none, or one of another session, is not."""

    def token(page: httpx.Response) -> str:
        (value,) = re.findall(r'name="csrf_token" type="hidden" value="([^"]+)"', page.text)
        return str(value)

    with serve(app_of("wtforms_csrf")) as url, browser_at(url) as ann, browser_at(url) as bob:
        mine, other = token(ann.get("/")), token(bob.get("/"))
        for refused in ({}, {"csrf_token": other}, {"csrf_token": "x##y"}):
            assert ann.post("/", data={"city": "Oslo", **refused}).status_code == 400
        assert ann.post("/", data={"city": "Oslo", "csrf_token": mine}).text == "Saved."
    assert [each.get(b"city") for each in fields(database)].count(b"Oslo") == 1


def test_a_form_from_another_site_reaches_the_session(database: Database) -> None:
    """The POST comes without the cookie (SameSite=Lax), and the GET that follows brings it."""
    with serve(app_of("form_post")) as url, browser_at(url) as browser:
        asked = browser.get("/login").headers
        assert "SameSite=Lax" in asked["set-cookie"]
        (state,) = parse_qs(urlsplit(asked["location"]).query)["state"]
        answer = {"state": state, "code": "4711", "user": '{"name": "Ada"}'}
        posted = httpx.post(f"{url}/callback", data=answer)
        assert posted.status_code == 303
        assert {"set-cookie", "vary"}.isdisjoint(posted.headers)
        assert httpx.get(f"{url}{posted.headers['location']}").status_code == 400
        planted = browser.cookies["session"]
        assert browser.get(posted.headers["location"]).status_code == 303
        assert browser.cookies["session"] != planted
        assert browser.get(posted.headers["location"]).status_code == 400  # once
        assert len(database.keys("session:user:*")) == 1


def test_def_endpoints_await_in_the_loop(database: Database) -> None:
    """Reading and writing needs nothing; `increment`, `login` and `logout` run in the loop."""
    with serve(app_of("def_endpoints")) as url, browser_at(url) as browser:
        browser.put("/theme/dark")
        assert [browser.post("/visits").json() for _ in range(3)] == [1, 2, 3]
        anonymous = browser.cookies["session"]
        browser.post("/login/ada")
        assert browser.cookies["session"] != anonymous
        assert browser.get("/").json() == {"user": "ada", "theme": "dark", "visits": 3}
        browser.post("/logout")
        assert browser.get("/").json() == {"user": None}
    assert session_keys(database) == []


def test_the_job_reaches_every_device(database: Database) -> None:
    """Run as its docstring says, it changes the sessions of one user, and no TTL."""

    async def log_in() -> None:
        async with SessionStore.from_url(os.environ["REDIS_URL"]) as store:
            for user in ("ada", "ada", "bob"):
                async with store.open("", cookie=PLAIN) as opened:
                    await opened.session.login(user)

    asyncio.run(log_in())
    hashes = [key for key in session_keys(database) if database.type(key) == b"hash"]
    for key in hashes:
        database.expire(key, 100)
    command = [sys.executable, "-m", "examples.recipes.background_job", "ada", "SPRING"]
    job = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert job.stdout == "2 devices have the voucher SPRING.\n"
    assert sorted(map(len, fields(database))) == [0, 1, 1]
    assert max(map(database.ttl, hashes)) <= 100


def test_a_stream_keeps_its_session_until_it_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event extends the TTL; after a logout elsewhere, the stream says so and ends."""
    monkeypatch.setenv("EVERY", "0.05")
    with serve(app_of("live")) as url, browser_at(url) as browser:
        browser.post("/login/ada")
        (key,) = [key for key in session_keys(database) if database.type(key) == b"hash"]
        with browser.stream("GET", "/prices") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "data: 42"
            database.expire(key, 60)
            while database.ttl(key) <= 60:
                next(lines)
            with browser_at(url, cookies=dict(browser.cookies)) as other:
                other.post("/logout")
            assert [*lines][-3:] == ["event: end", "data: log in again", ""]
    assert session_keys(database) == []


def test_a_stream_that_waits_ends_with_its_session(database: Database) -> None:
    """It says why: Redis reports the end."""
    with serve(app_of("alerts")) as url, browser_at(url) as browser:
        browser.post("/login/ada")
        with browser.stream("GET", "/alerts") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "data: welcome"
            assert httpx.post(f"{url}/password/ada").text == "1 sessions have ended\n"
            assert [*lines][-3:] == ["event: end", "data: Your password was changed.", ""]
    assert session_keys(database) == []


def test_a_socket_keeps_its_session_until_it_ends(database: Database) -> None:
    """A message extends the TTL; a logout elsewhere closes the socket and says why."""
    with serve(app_of("live")) as url, browser_at(url) as browser:
        address = f"ws{url.removeprefix('http')}/chat"
        with pytest.raises(InvalidStatus):
            connect(address)
        browser.post("/login/ada")
        headers = {"cookie": f"session={browser.cookies['session']}"}
        (key,) = [key for key in session_keys(database) if database.type(key) == b"hash"]
        with connect(address, additional_headers=headers) as socket:
            database.expire(key, 60)
            socket.send("hello")
            assert socket.recv(PATIENCE) == "ada: hello"
            assert database.ttl(key) > 60
            browser.post("/logout")
            with pytest.raises(ConnectionClosed, match="logged_out"):
                socket.recv(PATIENCE)


def test_a_page_warns_before_its_session_ends(database: Database) -> None:
    """The question does not extend the session, the button does."""
    with serve(app_of("session_ends")) as url, browser_at(url) as browser:
        assert browser.get("/session/left").json() == {"seconds": None}
        browser.post("/login/ann")
        (key,) = [key for key in session_keys(database) if database.type(key) == b"hash"]
        database.expire(key, 100)
        for _ in range(3):
            assert 0 < browser.get("/session/left").json()["seconds"] <= 100
        assert database.ttl(key) <= 100
        assert browser.get("/session/stay").json()["seconds"] > 1700
        assert wait_for(lambda: database.ttl(key) > 1700)  # no request waits for that
        database.delete(key)
        for path in ("/session/left", "/session/stay"):
            assert browser.get(path).json() == {"seconds": None}
        script = browser.get("/session/ends.js")
        assert script.headers["content-type"].startswith("text/javascript")


def test_a_page_says_why_its_user_was_signed_out(database: Database) -> None:
    """Elsewhere, by a change of the password, by time; not at a first visit or after a logout."""
    app = app_of("signed_out")
    with serve(app) as url, browser_at(url) as one, browser_at(url) as two, browser_at(url) as last:

        def shown(browser: httpx.Client) -> str:
            page = browser.get("/", follow_redirects=True).text
            return page.partition("<p>")[2].partition("</p>")[0]

        assert shown(one) == ""
        for browser in (one, two, last):
            browser.post("/login/ann")
            assert browser.get("/").text == "Hello, ann"
        for _ in range(2):
            assert shown(one) == "You were signed out because you signed in elsewhere."
        two.post("/password")
        assert two.get("/").text == "Hello, ann"
        assert shown(last) == "You were signed out: the password was changed."
        last.post("/login/bob")
        last.post("/logout")
        assert shown(last) == ""
        database.delete(*[key for key in session_keys(database) if database.type(key) == b"hash"])
        assert shown(two) == "Your session has ended."


def test_several_apps_share_a_redis_and_nothing_else(database: Database) -> None:
    """Two cookies and two prefixes; each app's login is its own."""
    with serve(app_of("several_apps")) as url, browser_at(url) as browser:
        browser.post("/login/ada")
        assert browser.get("/admin/").json() is None
        browser.post("/admin/login/root")
        assert [browser.get("/").json(), browser.get("/admin/").json()] == ["ada", "root"]
        assert sorted(browser.cookies) == ["admin_session", "shop_session"]
        crossed = {"admin_session": browser.cookies["shop_session"]}
        assert httpx.get(f"{url}/admin/", cookies=crossed).json() is None
    (shop,) = [k for k in session_keys(database, "shop") if database.type(k) == b"hash"]
    (admin,) = [k for k in session_keys(database, "admin") if database.type(k) == b"hash"]
    assert 300 < database.ttl(shop) <= 1800
    assert 0 < database.ttl(admin) <= 300


def test_two_sessions_of_one_app_end_by_themselves(database: Database) -> None:
    """A login each; logging out of the admin area leaves the shop's."""
    with serve(app_of("two_sessions")) as url, browser_at(url) as browser:
        browser.post("/login/ada")
        assert browser.get("/admin").status_code == 401
        browser.post("/admin/login/root")
        assert browser.get("/admin").json() == {"admin": "root", "shop": "ada"}
        shop = browser.cookies["shop"]
        browser.post("/admin/logout")
        assert browser.get("/admin").status_code == 401
        assert browser.get("/").json() == "ada"
        assert dict(browser.cookies) == {"shop": shop}
    assert len(session_keys(database, "shop")) == 2  # the session, and the list of its user
    assert session_keys(database, "admin") == []


def test_a_native_app_logs_in_by_a_header(database: Database) -> None:
    """Its id comes and goes in headers, while a browser has the cookie."""
    with serve(app_of("native_app")) as url, browser_at(url) as client:
        new = client.post("/login/ada", headers={"authorization": "Bearer new"})
        assert not client.cookies
        mine = {"authorization": f"Bearer {new.headers['session-id']}"}
        assert client.get("/me", headers=mine).json() == "ada"
        assert client.post("/logout", headers=mine).headers["session-id"] == ""
        assert client.get("/me", headers=mine).status_code == 401
        web = client.post("/login/bob")
        assert "session-id" not in web.headers
        assert client.get("/me").json() == "bob"
        foreign = {"sec-fetch-site": "cross-site"}
        assert client.post("/logout", headers=foreign).status_code == 403


def test_a_session_stays_with_its_tenant(database: Database) -> None:
    """A cookie that was carried to another tenant's host is refused, and visitors get none."""
    with serve(app_of("tenants")) as url, browser_at(url) as browser:
        acme, bolt = {"host": "acme.localhost"}, {"host": "bolt.localhost"}
        assert browser.get("/", headers=acme).json() is None
        assert not browser.cookies
        browser.post("/login/7", headers=acme)
        assert browser.get("/", headers=acme).json() == "acme:7"
        assert browser.get("/", headers=bolt).status_code == 403
        assert browser.get("/").status_code == 404
        browser.cookies.clear()
        browser.post("/login/7", headers=bolt)
        assert browser.get("/", headers=bolt).json() == "bolt:7"
        assert len(database.keys("session:user:*")) == 2

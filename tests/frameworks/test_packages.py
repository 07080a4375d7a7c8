"""
Packages that write to `request.session` themselves, in small apps made as their own pages show it.

Only the import of the middleware is ours: the drop-in. Each app runs under uvicorn and is used by a
real HTTP client, from the login to the logout.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from authlib.integrations.starlette_client import OAuth
from litestar import Litestar, get, post
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend
from sqlalchemy import Engine, StaticPool, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.contrib.sqla import Admin as StarletteAdmin
from starlette_admin.contrib.sqla import ModelView as StarletteModelView
from starlette_admin.exceptions import LoginFailed
from starlette_flash import flash
from starlette_wtf import CSRFProtectMiddleware, StarletteForm, csrf_protect
from wtforms import StringField

from asgi_redis_session import SessionStore
from asgi_redis_session.dropin import SessionMiddleware
from asgi_redis_session.testing import SessionKit
from examples.recipes import openid_provider

from ..dropin.swapped import signed_cookie
from ..support.serving import PATIENCE, serve, serve_apart

pytestmark = pytest.mark.anywhere

SECRET = "a secret of the app, long enough"


@pytest.fixture
def store(sessions: SessionKit) -> SessionStore:
    return sessions.store


def browser_at(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=PATIENCE, follow_redirects=True)


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    sku: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database in memory."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


# --- Authlib ---


def authlib_app(provider: str, store: SessionStore) -> Starlette:
    oauth = OAuth()
    oauth.register(
        "provider",
        server_metadata_url=f"{provider}/.well-known/openid-configuration",
        client_id="shop",
        client_secret=openid_provider.SECRET,
        client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
    )

    async def home(request: Request) -> JSONResponse:
        return JSONResponse(request.session.get("user"))

    async def login(request: Request) -> Any:
        return await oauth.provider.authorize_redirect(request, request.url_for("auth"))

    async def auth(request: Request) -> RedirectResponse:
        token = await oauth.provider.authorize_access_token(request)
        request.session["user"] = token["userinfo"]
        return RedirectResponse("/")

    async def logout(request: Request) -> RedirectResponse:
        request.session.pop("user", None)
        return RedirectResponse("/")

    app = Starlette(
        routes=[
            Route("/", home),
            Route("/login", login),
            Route("/auth", auth),
            Route("/logout", logout),
        ]
    )
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store)
    return app


def test_authlib(store: SessionStore, sessions: SessionKit) -> None:
    """Its state, its `UserInfo` (a subclass of dict) and the logout, with a new id at the login."""
    with serve(openid_provider.app) as provider, serve(authlib_app(provider, store)) as url:
        with browser_at(url) as browser:
            browser.get("/login", follow_redirects=False)
            planted = browser.cookies["session"]
            user = browser.get("/login").json()
            assert (user["sub"], user["email"]) == ("ada", "ada@example.com")
            assert browser.cookies["session"] != planted
            assert browser.get("/").json() == user
            assert browser.get("/logout").json() is None
            assert browser.get("/").json() is None
    assert sessions.keys() == []


# --- sqladmin and starlette-admin ---


class AdminLogin(AuthenticationBackend):
    async def login(self, request: Request) -> bool:
        form = await request.form()
        if form.get("password") != "hush":
            return False
        request.session.update({"token": "of the admin"})
        return True

    async def logout(self, request: Request) -> bool:
        request.session.clear()
        return True

    async def authenticate(self, request: Request) -> bool:
        return "token" in request.session


class ProductView(ModelView, model=Product):
    column_list = (Product.sku,)
    form_include_pk = True


def use_sqladmin(app: Starlette) -> list[str]:
    """Log in, make a product and log out; returns the cookies of the login."""
    with serve(app) as url, browser_at(url) as browser:
        assert browser.get("/admin/").url.path == "/admin/login"
        assert browser.post("/admin/login", data={"password": "no"}).status_code == 400
        browser.post("/admin/login", data={"password": "hush"})
        cookies = [*browser.cookies]
        browser.post("/admin/product/create", data={"sku": "TEA-1"})
        assert "TEA-1" in browser.get("/admin/product/list").text
        browser.get("/admin/logout")
        assert browser.get("/admin/product/list").url.path == "/admin/login"
        assert not browser.cookies
    return cookies


def test_sqladmin_with_the_apps_session(
    store: SessionStore, sessions: SessionKit, engine: Engine
) -> None:
    """Its backend's own middleware is left out, and there is one cookie."""
    app = Starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store)
    backend = AdminLogin(SECRET)
    backend.middlewares = []
    Admin(app, engine, authentication_backend=backend).add_view(ProductView)
    assert use_sqladmin(app) == ["session"]
    assert sessions.keys() == []


def test_sqladmin_with_sessions_of_its_own(
    store: SessionStore, sessions: SessionKit, engine: Engine
) -> None:
    """Its middleware replaced by the drop-in, with another cookie than the app's."""
    app = Starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store)
    backend = AdminLogin(SECRET)
    options: Any = {"secret_key": SECRET, "store": store, "session_cookie": "admin"}
    backend.middlewares = [Middleware(SessionMiddleware, **options)]
    Admin(app, engine, authentication_backend=backend).add_view(ProductView)
    assert use_sqladmin(app) == ["admin"]
    assert sessions.keys() == []


class StarletteAdminLogin(AuthProvider):
    async def login(
        self, username: str, password: str, remember_me: bool, request: Request
    ) -> None:
        if password != "hush":
            raise LoginFailed("Invalid username or password")
        request.session["user_id"] = username

    async def logout(self, request: Request) -> None:
        request.session.clear()

    async def authenticate(self, request: Request) -> AdminUser | None:
        user_id = request.session.get("user_id")
        return None if user_id is None else AdminUser(username=user_id)


def test_starlette_admin(store: SessionStore, sessions: SessionKit, engine: Engine) -> None:
    """Its login page, a list of its own, and its logout."""
    app = Starlette()
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=store)
    admin = StarletteAdmin(engine, auth_provider=StarletteAdminLogin(), secret_key=SECRET)
    admin.add_view(StarletteModelView(Product))
    admin.mount_to(app)
    with serve(app) as url, browser_at(url) as browser:
        assert browser.get("/admin/product/list").url.path == "/admin/login"

        def send(path: str, **form: str) -> httpx.Response:
            token = browser.cookies["starlette_admin_csrftoken"]
            return browser.post(path, data=form, headers={"X-CSRFToken": token})

        assert send("/admin/login", username="ada", password="no").status_code == 400
        send("/admin/login", username="ada", password="hush")
        assert browser.get("/admin/product/list").status_code == 200
        assert browser.get("/admin/product/list").url.path == "/admin/product/list"
        send("/admin/logout")
        assert browser.get("/admin/product/list").url.path == "/admin/login"
    assert sessions.keys() == []


# --- FastHTML ---


def test_fasthtml(sessions: SessionKit, session_redis_url: str) -> None:
    """`sess_cls=` takes the drop-in; toasts are tuples, and shown once; nobody is logged out."""
    environment = {"REDIS_URL": session_redis_url, "SESSION_PREFIX": sessions.prefix}
    app = "tests.frameworks.fasthtml_app:app"  # FastHTML changes Starlette's routes everywhere
    with serve_apart(app, environment=environment) as url, browser_at(url) as browser:
        assert "Hello stranger" in browser.get("/").text
        page = browser.post("/login", data={"name": "Ada"}).text
        assert "Hello Ada" in page
        assert page.count("Welcome, Ada") == 1
        assert "Welcome" not in browser.get("/").text
        assert [*browser.cookies] == ["session__id"]
        assert len(sessions.keys()) == 1
        assert "Hello stranger" in browser.get("/logout").text
        assert not browser.cookies
        signed = signed_cookie({"auth": "Bob"}, secret_key=SECRET, session_cookie="session_")
        browser.cookies.set("session_", signed)
        assert "Hello Bob" in browser.get("/").text
        assert "Hello stranger" in browser.get("/logout").text
    assert sessions.keys() == []


# --- Litestar ---


def test_litestar(store: SessionStore, sessions: SessionKit) -> None:
    """The drop-in by `DefineMiddleware`, `request.session`, `set_session` and `clear_session`."""

    @get("/")
    async def home(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return dict(request.session)

    @post("/login")
    async def login(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session["user"] = (await request.json())["name"]

    @post("/replace")
    async def replace(request: LitestarRequest[Any, Any, Any]) -> None:
        request.set_session({"user": request.session["user"], "cart": ["tea"]})

    @post("/logout")
    async def logout(request: LitestarRequest[Any, Any, Any]) -> None:
        request.clear_session()

    middleware: Any = SessionMiddleware
    app = Litestar(
        [home, login, replace, logout],
        middleware=[DefineMiddleware(middleware, secret_key=SECRET, store=store)],
        logging_config=None,  # it would change the log of all tests that follow
    )
    with serve(app) as url, browser_at(url) as browser:
        assert browser.get("/").json() == {}
        browser.post("/login", json={"name": "ada"})
        assert browser.get("/").json() == {"user": "ada"}
        browser.post("/replace")
        assert browser.get("/").json() == {"user": "ada", "cart": ["tea"]}
        browser.post("/logout")
        assert browser.get("/").json() == {}
        assert not browser.cookies
    assert sessions.keys() == []


# --- Flash messages and forms ---


class Address(StarletteForm):  # type: ignore[misc]
    city = StringField("City")


async def flashing(request: Request) -> PlainTextResponse:
    flash(request).success("Saved.")
    return PlainTextResponse("done")


async def flashed(request: Request) -> JSONResponse:
    return JSONResponse(flash(request).consume())


@csrf_protect  # type: ignore[untyped-decorator]
async def form(request: Request) -> HTMLResponse:
    address = await Address.from_formdata(request)
    if await address.validate_on_submit():
        return HTMLResponse(f"To {address.city.data}")
    return HTMLResponse(f"{address.csrf_token}")


@pytest.fixture
def small(store: SessionStore) -> Iterator[httpx.Client]:
    app = Starlette(
        routes=[
            Route("/flash", flashing, methods=["POST"]),
            Route("/flashes", flashed),
            Route("/form", form, methods=["GET", "POST"]),
        ],
        middleware=[
            Middleware(SessionMiddleware, secret_key=SECRET, store=store),
            Middleware(CSRFProtectMiddleware, csrf_secret=SECRET),
        ],
    )
    with serve(app) as url, browser_at(url) as browser:
        yield browser


def test_starlette_flash(small: httpx.Client) -> None:
    """It looks for a real dict; a message is shown once."""
    small.post("/flash")
    assert small.get("/flashes").json() == [{"category": "success", "message": "Saved."}]
    assert small.get("/flashes").json() == []


def test_starlette_wtf(small: httpx.Client) -> None:
    """The token of the page is accepted, and without it the form is refused."""
    (token,) = re.findall('value="([^"]+)"', small.get("/form").text)
    assert small.post("/form", data={"city": "Oslo"}).status_code == 403
    assert small.post("/form", data={"city": "Oslo", "csrf_token": token}).text == "To Oslo"

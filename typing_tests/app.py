"""
An app that uses the library, for type checkers only: it is never run.

`make check` lets mypy and pyright check it, both in strict mode. What must be an error carries a
`type: ignore`, and an ignore that is not needed is an error, too. Its rule is mypy's name for it.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, assert_type

from fastapi import Depends, FastAPI, Request, WebSocket
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware

from asgi_redis_session import (
    CheckReport,
    CookiePolicy,
    Durability,
    Filter,
    Finding,
    HeaderPolicy,
    IndexStatus,
    Lifetime,
    Limits,
    Num,
    OpenedSession,
    Session,
    SessionEvent,
    SessionInfo,
    SessionMiddleware,
    SessionStore,
    Stats,
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
from asgi_redis_session.litestar import SessionDep as LitestarSession
from asgi_redis_session.litestar import SessionPlugin
from asgi_redis_session.starlette import closing_when_revoked, ending_when_revoked, load_session
from asgi_redis_session.testing import SessionKit

# --- A store ---


def log(event: SessionEvent) -> None:
    assert_type(
        event.name,
        Literal[
            "created",
            "logged_in",
            "renewed",
            "ended",
            "expired",
            "gone",
            "unknown_id",
            "conflict",
            "corrupt",
            "cross_origin",
            "moved",
            "new_device",
            "unavailable",
        ],
    )
    assert_type(
        event.reason, Literal["logout", "revoked", "limit", "replaced", "login_failed"] | None
    )
    assert_type(event.handle, str | None)
    assert_type(event.user_id, str | None)
    assert_type(event.detail, str | None)
    assert_type(event.actor, str | None)
    assert_type(event.at, datetime)
    if event.name == "logged_out":  # type: ignore[comparison-overlap]
        raise AssertionError


store = SessionStore.from_url(
    "redis://localhost:6379/0",
    lifetime=Lifetime(idle=timedelta(minutes=30), absolute=None, refresh_after=60),
    prefix="shop:session",
    secret=["a new secret of the app", None],
    max_sessions_per_user=5,
    on_limit="reject",
    index=[Tag("tenant"), Num("total"), Text("name")],
    durability=Durability(replicas=1),
    end_durability=None,
    limits=Limits(fields=100),
    timeout=timedelta(seconds=1),
    on_event=log,
)
assert_type(store, SessionStore)
assert_type(store.lifetime, Lifetime)
assert_type(store.prefix, str)
assert_type(store.limits, Limits)
assert_type(store.durability, Durability | None)
assert_type(store.stats, Stats)
assert_type(store.stats.as_dict(), dict[str, int])

SessionStore.from_url("redis://localhost", life_time=Lifetime())  # type: ignore[call-arg]
SessionStore.from_url("redis://localhost", prefix=7)  # type: ignore[arg-type]
SessionStore.from_url("redis://localhost", on_limit="drop")  # type: ignore[arg-type]
SessionStore.from_url("redis://localhost", index=["tenant"])  # type: ignore[list-item]
SessionStore("redis://localhost")  # type: ignore[arg-type]
SessionStore(Redis(), lifetime=timedelta(minutes=5))  # type: ignore[arg-type]
Lifetime(idle=None)  # type: ignore[arg-type]


class OurStore(SessionStore):
    """A subclass keeps its type."""


assert_type(OurStore.from_url("redis://localhost"), OurStore)

# --- The middleware ---


def loads(scope: Any) -> bool:
    return bool(scope["path"] != "/health")


async def loads_async(scope: Any) -> bool:
    return loads(scope)


def refresh(scope: Any) -> Literal["request", "never"]:
    return "never" if scope["path"] == "/poll" else "request"


async def unavailable(scope: Any, receive: Any, send: Any) -> None:
    """Answers when Redis is down."""


api = FastAPI()
api.add_middleware(SessionMiddleware, store=store)
api.add_middleware(SessionMiddleware, store="redis://localhost", autoload=loads_async)
api.add_middleware(SessionMiddleware, store=store, refresh=refresh, unavailable=unavailable)
site = Starlette(
    middleware=[Middleware(SessionMiddleware, store=store, autoload=True, unavailable="anonymous")]
)
SessionMiddleware(site, store=store, cookie=CookiePolicy(name="sid", max_age="session"))
SessionMiddleware(site, store=store, cookie=lambda scope: CookiePolicy(name=scope["scheme"]))
SessionMiddleware(site, store=store, key="admin_session", cookie=CookiePolicy(name="admin"))
SessionMiddleware(site, store=store, key=7)  # type: ignore[arg-type]
SessionMiddleware(site, store=store, cookie=None, carrier=HeaderPolicy(scheme=None, name="X-Id"))
SessionMiddleware(site, store=store, carrier="Authorization")  # type: ignore[arg-type]
SessionMiddleware(site, store=store, cookie=lambda scope: "sid")  # type: ignore[arg-type, return-value]
SessionMiddleware(site, store=store, autoload=loads, refresh="load")
SessionMiddleware(site, store=store, autoload="yes")  # type: ignore[arg-type]
SessionMiddleware(site, store=store, refresh="always")  # type: ignore[arg-type]
SessionMiddleware(site, store=store, unavailable="anonymously")  # type: ignore[arg-type]
SessionMiddleware(site, store=Redis())  # type: ignore[arg-type]
CookiePolicy(same_site="Lax")  # type: ignore[arg-type]

# --- Requests ---


@api.post("/login")
async def log_in(session: SessionDep) -> None:
    assert_type(session, Session)
    await session.login(42)
    await session.login("ann", idle=timedelta(days=14), absolute=None)
    await session.login("ann", idle=1800.0, absolute=86_400)
    await session.login("ann", amr=("pwd", "otp"))
    await session.login("ann", actor=7)
    await session.login("ann", amr=[1])  # type: ignore[list-item]
    await session.login("ann", persistent=True)
    await session.login("ann", persistent="yes")  # type: ignore[arg-type]
    await session.login("ann", idle=None)  # type: ignore[arg-type]
    await session.login("ann", lifetime=Lifetime())  # type: ignore[call-arg]
    await session.login(4.2)  # type: ignore[arg-type]
    session.set_lifetime(idle=60)
    session.set_lifetime(absolute=timedelta(hours=1))
    session.set_lifetime(absolute=None)
    session.set_lifetime(60)  # type: ignore[call-arg]
    session.renew()
    assert_type(await session.touch(), bool)
    assert_type(await session.still_valid(), bool)
    await session.save(durability=Durability(fsync=True))
    await session.logout()


@api.get("/cart")
async def cart(session: SessionDep, user: CurrentUser) -> list[str]:
    assert_type(user, str)
    assert_type(session.user_id, str | None)
    assert_type(session.handle, str | None)
    assert_type(session.created_at, datetime | None)
    assert_type(session.authenticated_at, datetime | None)
    assert_type(session.expires_at, datetime | None)
    assert_type(session.loaded, bool)
    assert_type(session.is_new, bool)
    assert_type(session.accessed, bool)
    assert_type(session.is_fresh(timedelta(minutes=5)), bool)
    assert_type(session.is_fresh(300, amr=["otp"]), bool)
    assert_type(session.amr, tuple[str, ...])
    assert_type(session.actor, str | None)
    assert_type(session.expires_in, timedelta | None)
    assert_type(session.modified, bool)
    session.modified = True
    session.mark_modified()
    session.mark_accessed()
    session.accessed = True  # type: ignore[misc]
    assert_type(await session.increment("visits"), int)
    assert_type(await session.append("seen", 7, keep=50), int)
    await session.append("seen", 7)  # type: ignore[call-arg]
    assert_type(await session.fetch("cart", "theme"), dict[str, Any])
    assert_type(await session.reload(), Session)
    assert_type(session.copy(), dict[str, Any])
    assert_type(dict(session), dict[str, Any])
    assert_type(session | {"theme": "dark"}, dict[str, Any])
    session |= {"theme": "dark"}
    assert_type(session, Session)
    items: list[str] = session.setdefault("cart", [])
    for name, value in session.items():
        assert_type(name, str)
        assert_type(value, Any)
    session[1] = "one"  # type: ignore[call-overload]
    session.user_id = "ann"  # type: ignore[misc]
    session.cart = []  # type: ignore[attr-defined]
    return items


@api.post("/password", dependencies=[Depends(require_fresh(timedelta(minutes=5)))])
async def password(request: Request) -> None:
    assert_type(await load_session(request), Session)


NamedSession = Annotated[Session, Depends(session_dep(cookie_name="sid"))]
NamedUser = Annotated[str, Depends(user_dep(cookie_name="sid"))]


@api.get("/named")
async def named(session: NamedSession, user: NamedUser) -> str:
    assert_type(session, Session)
    return assert_type(user, str)


@api.websocket("/chat")
async def chat(websocket: WebSocket, session: SessionDep) -> None:
    await websocket.accept()
    async with closing_when_revoked(websocket, every=1):
        async for text in websocket.iter_text():
            session["last"] = text
            await session.save()


async def numbers() -> AsyncGenerator[int, None]:
    yield 1


async def streams(session: Session) -> None:
    async for number in ending_when_revoked(numbers(), session, every=timedelta(seconds=1)):
        assert_type(number, int)
    ending_when_revoked(numbers, session)  # type: ignore[arg-type]


# --- Users ---


async def account(session: Session) -> None:
    listed = await store.users.list("ann", current=session, offset=0, limit=20)
    assert_type(listed, list[SessionInfo])
    for info in listed:
        assert_type(info.handle, str)
        assert_type(info.user_id, str | None)
        assert_type(info.created_at, datetime)
        assert_type(info.last_seen, datetime)
        assert_type(info.expires_at, datetime)
        assert_type(info.authenticated_at, datetime | None)
        assert_type(info.fields, dict[str, Any])
        assert_type(info.current, bool)
        info.handle = ""  # type: ignore[misc]
    assert_type(await store.users.count(42), int)
    assert_type(await store.users.revoke(42, "handle"), bool)
    assert_type(await store.users.revoke_all(42), int)
    assert_type(await store.users.revoke_others(session), int)
    await store.users.revoke(42)  # type: ignore[call-arg]
    await store.users.count(None)  # type: ignore[arg-type]


# --- Search ---

TENANT, TOTAL, NAME = Tag("tenant"), Num("total"), Text("name")
assert_type(TENANT == "acme", Filter)
assert_type(TENANT != None, Filter)  # noqa: E711
assert_type(TENANT.in_(["acme", "umbrella"]), Filter)
assert_type(TOTAL > 9, Filter)
assert_type(TOTAL.between(1, 9), Filter)
assert_type(NAME.contains_any(["ann"]), Filter)
rich = (TENANT == "acme") & ((TOTAL >= 10_000) | ~(NAME == "bob"))
assert_type(rich, Filter)


async def queries() -> None:
    assert_type(await store.search.count(), int)
    assert_type(await store.search.count(rich, exact=False), int)
    assert_type(store.search.find(rich, fields=["total"]), AsyncGenerator[SessionInfo, None])
    async for info in store.search.find(rich):
        assert_type(info, SessionInfo)
    assert_type(await store.search.count_by(TENANT, rich), dict[Any, int])
    assert_type(await store.search.sum_by("tenant", TOTAL), dict[Any, float])
    assert_type(await store.search.revoke(rich), int)
    assert_type(await store.search.create_index(backfill=True), IndexStatus)
    assert_type(await store.search.status(), IndexStatus)
    assert_type(await store.search.drop_index(), bool)
    await store.search.revoke()  # type: ignore[call-arg]
    await store.search.count("tenant")  # type: ignore[arg-type]


# --- Outside requests ---


async def outside(header: str | bytes | None) -> str | None:
    assert_type(store.open(header), AbstractAsyncContextManager[OpenedSession])
    async with store.open(header, cookie=CookiePolicy(name="sid")) as opened:
        assert_type(opened, OpenedSession)
        assert_type(opened.session, Session)
        opened.session["seen"] = True
    assert_type(opened.set_cookie, str | None)
    async with store.edit("handle") as session:
        assert_type(session, Session)
        session["plan"] = "gold"
    store.edit(None)  # type: ignore[arg-type]
    assert_type(await store.get("handle"), SessionInfo | None)
    assert_type(await store.revoke("handle"), bool)
    assert_type(await store.users.revoke_all(42, reason="password changed"), int)
    assert_type(await store.search.revoke(Tag("a") == "b", reason="gone"), int)
    await store.users.revoke_all(42, "password changed")  # type: ignore[call-arg]
    assert_type(await store.count(), int)
    async for info in store.scan(42, idle_for=timedelta(days=30)):
        assert_type(info, SessionInfo)
    assert_type(await store.revoke_where(lambda info: info.user_id is None, dry_run=True), int)
    await store.revoke_where(lambda info: info.user_id)  # type: ignore[arg-type, return-value]
    async with OurStore.from_url("redis://localhost") as ours:
        assert_type(ours, OurStore)
    report = await store.check()
    assert_type(report, CheckReport)
    assert_type(report.findings, tuple[Finding, ...])
    await store.drain()
    await store.aclose()
    return opened.set_cookie


# --- Tests ---


def test_cart(sessions: SessionKit) -> None:
    cookies = sessions.cookies({"cart": ["tea"]}, user=42)
    assert_type(cookies, dict[str, str])
    assert_type(sessions.store, SessionStore)
    assert_type(sessions.read(cookies), dict[str, Any])
    assert_type(sessions.handle_of(cookies), str | None)
    assert_type(sessions.session(), Session)
    assert_type(sessions.info("handle"), SessionInfo | None)
    assert_type(sessions.keys(), list[str])
    with sessions.count() as commands:
        assert_type(commands.names, list[str])
        assert_type(commands.scripts, list[str])
    with DevServer() as server:
        assert_type(server.url, str)


# --- Litestar ---


@get("/cart")
async def litestar_cart(session: LitestarSession) -> list[str]:
    assert_type(session, Session)
    await session.login(7)
    return list(session)


Litestar(
    [litestar_cart],
    plugins=[SessionPlugin(store="redis://localhost:6379/0", cookie=CookiePolicy())],
)
Litestar(
    [litestar_cart],
    middleware=[DefineMiddleware(SessionMiddleware, store="redis://localhost:6379/0")],
)
SessionPlugin(store=1)  # type: ignore[arg-type]

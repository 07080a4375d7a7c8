"""Many requests at once: no lost field, no resurrection, every answer to its asker."""

import asyncio
import random
import threading
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_redis_session import SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.starlette import load_session
from asgi_redis_session.testing import SessionKit

from ..support.internals import open_session
from ..support.keyspace import session_keys
from ..support.serving import PATIENCE, serve
from ..support.sessions import PLAIN, connections, create

pytestmark = pytest.mark.on_cluster


async def test_200_requests_writing_their_own_field_all_survive(sessions: SessionKit) -> None:
    """200 requests at once on one session, each writing its own field: 200 fields."""

    async def write(request: Request) -> Response:
        session = await load_session(request)
        await asyncio.sleep(0)
        session[request.path_params["name"]] = True
        return PlainTextResponse("ok")

    app = SessionMiddleware(
        Starlette(routes=[Route("/{name}", write)]), store=sessions.store, cookie=PLAIN
    )
    cookies = sessions.cookies({"first": 1}, cookie=PLAIN)
    with serve(app) as url:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=url, cookies=cookies, limits=limits, timeout=PATIENCE
        ) as client:
            responses = await asyncio.gather(*[client.get(f"/f{i}") for i in range(200)])
    assert {response.status_code for response in responses} == {200}
    assert sessions.read(cookies, cookie=PLAIN) == {"first": 1} | {
        f"f{i}": True for i in range(200)
    }


async def test_200_increments_count_200(store: SessionStore) -> None:
    """200 increments at once: exactly 200 more, and every sum is seen once."""
    session_id = await create(store, n=5)
    sums = await asyncio.gather(
        *[open_session(store, session_id).increment("n") for _ in range(200)]
    )
    assert sorted(sums) == list(range(6, 206))
    assert (await open_session(store, session_id).load())["n"] == 205


async def test_a_slow_write_after_logout_changes_nothing(
    sessions: SessionKit, events: list[SessionEvent]
) -> None:
    """A request that loaded before a logout and writes after it: gone, no key, no Set-Cookie."""
    loaded, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        session = await load_session(request)
        loaded.set()
        await ended.wait()
        session["late"] = True
        return PlainTextResponse("ok")

    async def logout(request: Request) -> Response:
        await request.scope["session"].logout()
        return PlainTextResponse("bye")

    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, on_event=events.append)
    app = SessionMiddleware(
        Starlette(routes=[Route("/slow", slow), Route("/logout", logout)]),
        store=store,
        cookie=PLAIN,
    )
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)
    transport = httpx.ASGITransport(app)
    async with (
        store,
        httpx.AsyncClient(transport=transport, base_url="http://app", cookies=cookies) as one,
        httpx.AsyncClient(transport=transport, base_url="http://app", cookies=cookies) as other,
    ):
        waiting = asyncio.create_task(one.get("/slow"))
        await loaded.wait()
        goodbye = await other.get("/logout")
        assert sessions.keys() == []
        ended.set()
        response = await waiting
    assert "Max-Age=0" in goodbye.headers["set-cookie"]
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert sessions.keys() == []
    assert [event.name for event in events] == ["ended", "gone"]


async def _get(url: str, cookie: str) -> tuple[bytes, bytes]:
    """Status line and body. An HTTP client would look at all of its connections each time."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    lines = ("GET / HTTP/1.1", "Host: app", f"Cookie: {cookie}", "Connection: close", "", "")
    writer.write("\r\n".join(lines).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0], body


@pytest.mark.one_node
async def test_1000_concurrent_requests_need_few_connections(
    sessions: SessionKit, admin: Any
) -> None:
    """1,000 concurrent requests: no error, at most 4 Redis connections."""
    # Client and server share one process here, on whatever else the machine has to do: the
    # timeout is not what this is about.
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix, timeout=60)
    cookies = sessions.cookies({"n": 1}, cookie=PLAIN)

    async def read(request: Request) -> Response:
        await asyncio.sleep(0.2)
        return JSONResponse((await load_session(request))["n"])

    before = {client["id"] for client in admin.client_list()}
    app = SessionMiddleware(Starlette(routes=[Route("/", read)]), store=store, cookie=PLAIN)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    with serve(app) as url:
        responses = await asyncio.gather(*[_get(url, cookie) for _ in range(1000)])
        used = connections(admin, before)
    assert set(responses) == {(b"HTTP/1.1 200 OK", b"1")}
    assert 1 <= used <= 4


async def test_cancelled_loads_never_mix_up_answers(store: SessionStore, admin: Any) -> None:
    """300 concurrent loads, a third cancelled at random awaits, 100 times: no mix-up."""
    ids = [await create(store, who=number) for number in range(300)]
    before = {client["id"] for client in admin.client_list()}
    chance = random.Random(20)

    async def load(number: int) -> int:
        return (await open_session(store, ids[number]).load())["who"]  # type: ignore[no-any-return]

    async def cancel_soon(task: "asyncio.Task[int]") -> None:
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() / 500)
        task.cancel()

    answered = cancelled = 0
    for _ in range(100):
        tasks = [asyncio.create_task(load(number)) for number in range(300)]
        for task in chance.sample(tasks, 100):
            asyncio.create_task(cancel_soon(task))  # noqa: RUF006
        for number, answer in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if isinstance(answer, asyncio.CancelledError):
                cancelled += 1
            else:
                assert answer == number
                answered += 1
    assert answered + cancelled == 30_000
    assert cancelled > 1_000
    assert connections(admin, before) == 0  # still the one that `create` opened


async def test_a_watchdog_sees_the_end_of_its_session(store: SessionStore) -> None:
    """`still_valid` beside a `logout`: whichever comes first, no error, and False from then on."""
    for first in ("logout", "still_valid"):
        session = open_session(store, await create(store, n=1))
        verbs = [session.logout(), session.still_valid()]
        await asyncio.gather(*(verbs if first == "logout" else reversed(verbs)))
        assert not await session.still_valid()


async def test_gathered_tasks_of_one_request_share_a_session(store: SessionStore) -> None:
    """Loads, writes, fetches and saves gathered in one request lose nothing."""
    session_id = await create(store, n=0)
    session = open_session(store, session_id)

    async def work(number: int) -> None:
        await session.load()
        session[f"f{number}"] = number
        if number % 3 == 0:
            await session.save()
        await session.increment("n")

    await asyncio.gather(*[work(number) for number in range(60)])
    await session.save()
    again = await open_session(store, session_id).load()
    assert dict(again) == {"n": 60} | {f"f{number}": number for number in range(60)}


async def test_two_renewals_have_one_winner(sessions: SessionKit) -> None:
    """Two requests renewing the same id: one winner, one live session."""
    store = SessionStore.from_url(sessions.url, prefix=sessions.prefix)
    async with store:
        session_id = await create(store, n=1)
        first, second = open_session(store, session_id), open_session(store, session_id)
        await asyncio.gather(first.load(), second.load())
        first.renew()
        second.renew()
        results = await asyncio.gather(first.save(), second.save(), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "SessionGone"]
    assert len(sessions.keys()) == 1


async def test_no_key_is_without_ttl_at_any_instant(
    store: SessionStore, admin: Any, prefix: str
) -> None:
    """While sessions are created, written, renewed and ended, somebody looks at every key."""
    stop = threading.Event()
    looks: list[int] = []

    def watch() -> None:
        while not stop.is_set():
            looks.extend(map(admin.pttl, session_keys(admin, prefix)))

    async def live(number: int) -> None:
        session = await open_session(store, await create(store, n=number)).load()
        await session.login(f"user {number % 5}")
        session["cart"] = []
        await session.save()
        session["cart"].append("tea")
        session.renew()
        await session.save()
        if number % 2:
            await session.logout()

    watching = asyncio.create_task(asyncio.to_thread(watch))
    for start in range(0, 1000, 50):
        await asyncio.gather(*[live(number) for number in range(start, start + 50)])
    stop.set()
    await watching
    assert len(looks) > 100
    assert -1 not in looks  # -2: gone since it was seen

"""The HTTP rows of docs/outcomes.md, with the middleware in both places."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.starlette import load_session

from ..support.internals import load_scripts
from ..support.serving import PATIENCE
from ..support.sessions import PLAIN
from .conftest import World, assert_503

pytestmark = pytest.mark.on_cluster


def test_load_fails_and_rises(world: World) -> None:
    """503 with Retry-After, no cookie, nothing changed."""

    async def endpoint(request: Request) -> Response:
        await load_session(request)
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint))
    assert world.raised == []
    assert world.fields() == {"n": 1}
    assert "unavailable" in world.events


def test_autoload_fails(world: World) -> None:
    """With autoload the app is not even called: 503."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint, autoload=True))


@pytest.mark.parametrize("status", [200, 404, 500, 502])
def test_load_fails_and_the_app_copes(world: World, status: int) -> None:
    """An app that handles the error answers by itself, whatever its status."""

    async def endpoint(request: Request) -> Response:
        with suppress(SessionUnavailable):
            await load_session(request)
        return PlainTextResponse("without", status)

    world.gate.shut()
    response = world.get(endpoint)
    assert (response.status_code, response.text) == (status, "without")
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("kind", ["KeyError", "HTTPException", "group"])
def test_load_fails_and_the_app_raises_something_else(world: World, kind: str) -> None:
    """An exception that follows from a failed load is a 503 as well."""

    async def endpoint(request: Request) -> Response:
        if kind == "group":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(load_session, request)
        try:
            await load_session(request)
        except SessionUnavailable as error:
            if kind == "KeyError":
                raise KeyError("user") from error
            raise HTTPException(502)  # noqa: B904  (what apps write)
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint))


def test_load_fails_and_the_app_fails_later(world: World) -> None:
    """What the app raises for a reason of its own is its own 500."""

    async def endpoint(request: Request) -> Response:
        with suppress(SessionUnavailable):
            await load_session(request)
        raise KeyError("user")

    world.gate.shut()
    response = world.get(endpoint)
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert [type(error) for error in world.raised] == [KeyError]


OUTSIDE: dict[str, Callable[[SessionStore], Awaitable[Any]]] = {
    "get": lambda store: store.get("0" * 32),
    "revoke": lambda store: store.revoke("0" * 32),
    "list": lambda store: store.users.list("ann"),
    "count": lambda store: store.users.count("ann"),
    "revoke one": lambda store: store.users.revoke("ann", "0" * 32),
    "revoke all": lambda store: store.users.revoke_all("ann"),
}


@pytest.mark.parametrize("verb", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_verb_of_the_store_fails(
    world: World, verb: Callable[[SessionStore], Awaitable[Any]]
) -> None:
    """What a handler asks of the store, beside its session, is a 503 in the same way."""

    async def endpoint(request: Request) -> Response:
        await verb(world.store)
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint))
    assert world.raised == []


def test_anonymous_when_unavailable(world: World) -> None:
    """unavailable="anonymous": an empty session, the cookie untouched."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        return PlainTextResponse(f"{dict(session)} {await session.fetch('n')}")

    world.gate.shut()
    response = world.get(endpoint, unavailable="anonymous")
    assert (response.status_code, response.text) == (200, "{} {}")
    assert "set-cookie" not in response.headers
    assert world.fields() == {"n": 1}


def test_anonymous_refuses_writes(world: World) -> None:
    """A write to the stand-in raises, so the request is a 503 and no new session appears."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = 2
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint, unavailable="anonymous"))
    assert world.fields() == {"n": 1}
    assert len(world.kit.keys()) == 1


def test_anonymous_refuses_logout(world: World) -> None:
    """A logout that can't reach Redis says so instead of pretending."""

    async def endpoint(request: Request) -> Response:
        await (await load_session(request)).logout()
        return PlainTextResponse("never")

    world.gate.shut()
    assert_503(world.get(endpoint, unavailable="anonymous"))
    assert world.fields() == {"n": 1}


def test_anonymous_does_not_pretend_that_the_session_ended(world: World) -> None:
    """`still_valid()` of a stand-in asks Redis, and says that it can't tell."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        with pytest.raises(SessionUnavailable):
            await session.still_valid()
        await asyncio.to_thread(world.gate.open)
        return PlainTextResponse(str(await session.still_valid()))

    world.gate.shut()
    assert world.get(endpoint, unavailable="anonymous").text == "True"


@pytest.mark.parametrize("new", [False, True])
def test_commit_fails(world: World, new: bool) -> None:
    """Redis goes away between load and commit: 503 instead of the app's answer."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        await asyncio.to_thread(world.gate.shut)
        return PlainTextResponse("never")

    assert_503(world.get(endpoint, new=new))
    assert world.fields() == {"n": 1}


def test_an_explicit_save_fails(world: World) -> None:
    """SessionUnavailable out of `save()` that nobody catches is a 503 in both places."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        await asyncio.to_thread(world.gate.shut)
        await session.save()
        return PlainTextResponse("never")

    assert_503(world.get(endpoint))


def test_commit_fails_after_a_session_was_created(world: World) -> None:
    """The 503 carries the cookie of the session that `save()` created before."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 1
        await session.save()
        session["n"] = 2
        await asyncio.to_thread(world.gate.shut)
        return PlainTextResponse("never")

    response = world.get(endpoint, new=True)
    assert response.status_code == 503
    assert world.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": 1}


@pytest.mark.parametrize("verb", ["renew", "login"])
def test_the_reply_to_a_new_id_is_lost(world: World, admin: Any, verb: str) -> None:
    """503 without a cookie; the old id is dead, as after a logout."""
    load_scripts(admin)

    async def lose() -> None:
        while await asyncio.to_thread(world.fields):
            await asyncio.sleep(0.005)
        await asyncio.to_thread(world.gate.shut)

    losing: list[asyncio.Task[None]] = []

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        if verb == "login":
            await session.login("ann")
        else:
            session.renew()
        await asyncio.to_thread(world.gate.hold_replies)
        losing.append(asyncio.create_task(lose()))
        return PlainTextResponse("never")

    assert_503(world.get(endpoint, timeout=60))
    assert world.raised == []
    assert world.fields() == {}


def test_a_nested_value_that_cannot_be_stored(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """500 instead of the app's answer; the field is logged, and no change is written."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["cart"] = []
        session["n"] = 2
        session["cart"].append({1, 2})
        return PlainTextResponse("never")

    response = world.get(endpoint)
    assert response.status_code == 500
    assert response.text == "The session could not be saved.\n"
    assert "session['cart']" in caplog.text
    assert world.fields() == {"n": 1}


def test_session_gone_at_commit(world: World) -> None:
    """The app's answer, without a cookie, and nothing comes back."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        assert await asyncio.to_thread(world.kit.revoke, session.handle or "")
        return PlainTextResponse("the app's")

    response = world.get(endpoint)
    assert (response.status_code, response.text) == (200, "the app's")
    assert "set-cookie" not in response.headers
    assert world.kit.keys() == []
    assert world.events == ["gone"]


def test_session_gone_at_an_explicit_save(world: World) -> None:
    """`SessionGone` is an error of the app like any other: Redis has answered, so no 503."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        assert await asyncio.to_thread(world.kit.revoke, session.handle or "")
        await session.save()
        return PlainTextResponse("not reached")

    response = world.get(endpoint)
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert "set-cookie" not in response.headers
    assert world.kit.keys() == []
    assert world.events == ["gone"]


@pytest.mark.parametrize("new", [False, True])
def test_app_raises(world: World, new: bool) -> None:
    """Starlette's 500; what was staged is dropped."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = 2
        raise ValueError("a bug")

    response = world.get(endpoint, new=new)
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert "set-cookie" not in response.headers
    assert world.fields() == {"n": 1}
    assert len(world.kit.keys()) == 1


def test_app_raises_after_a_session_was_created(world: World) -> None:
    """What `save()` created stands; its cookie goes along where the 500 passes us."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        await session.save()
        raise ValueError("a bug")

    response = world.get(endpoint, new=True)
    assert response.status_code == 500
    assert len(world.kit.keys()) == 2
    assert ("set-cookie" in response.headers) is (world.place == "wrap")


def test_app_raises_after_logout(world: World) -> None:
    """A logout stands although the request fails later."""

    async def endpoint(request: Request) -> Response:
        await request.scope["session"].logout()
        raise ValueError("a bug")

    assert world.get(endpoint).status_code == 500
    assert world.kit.keys() == []


def test_app_raises_after_the_response_started(world: World) -> None:
    """What was committed at the start stands, what was staged later is dropped."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2

        async def stream() -> AsyncIterator[bytes]:
            yield b"first"
            session["n"] = 3
            raise ValueError("a bug")

        return StreamingResponse(stream())

    with pytest.raises(httpx.RemoteProtocolError):
        world.get(endpoint)
    assert world.fields() == {"n": 2}


@pytest.mark.parametrize("status", [500, 503, 599])
def test_status_5xx(world: World, status: int) -> None:
    """A response of 500 and above commits nothing that was staged."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = 2
        return PlainTextResponse("the app's", status)

    response = world.get(endpoint)
    assert (response.status_code, response.text) == (status, "the app's")
    assert world.fields() == {"n": 1}


def test_status_5xx_after_a_session_was_created(world: World) -> None:
    """The browser still gets the cookie of what `save()` created."""

    async def endpoint(request: Request) -> Response:
        session = await load_session(request)
        session["n"] = 2
        await session.save()
        return PlainTextResponse("the app's", 500)

    response = world.get(endpoint, new=True)
    assert world.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": 2}


@pytest.mark.parametrize("status", [204, 303, 400, 404, 409])
def test_other_statuses_commit(world: World, status: int) -> None:
    """Redirects and 4xx are answers like any other."""

    async def endpoint(request: Request) -> Response:
        (await load_session(request))["n"] = status
        return Response(status_code=status)

    response = world.get(endpoint, new=True)
    assert response.status_code == status
    assert world.kit.read(dict(response.cookies), cookie=PLAIN) == {"n": status}


def test_app_never_answers(world: World) -> None:
    """Nothing was acknowledged, so nothing is written."""

    class Silent:
        """An ASGI app, which a route calls as it is."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            (await scope["session"].load())["n"] = 2

    response = world.get(Silent())  # type: ignore[arg-type]
    assert response.status_code == 500
    assert world.raised == []
    assert "set-cookie" not in response.headers
    assert world.fields() == {"n": 1}


def test_a_refresh_that_fails_harms_nobody(world: World) -> None:
    """A request that never touches its session does not notice that Redis is away."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("untouched")

    world.gate.shut()
    response = world.get(endpoint)
    assert (response.status_code, response.text) == (200, "untouched")
    assert "unavailable" in world.events


def test_a_hung_redis_is_given_up_within_the_timeout(world: World) -> None:
    """A server that takes commands and never answers: 503, and it recovers by itself."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(str((await load_session(request))["n"]))

    with world.serving(Route("/", endpoint), timeout=2) as url:
        with httpx.Client(base_url=url, cookies=world.cookies, timeout=PATIENCE) as client:
            assert client.get("/").text == "1"
            world.gate.hang()
            assert_503(client.get("/"))
            world.gate.open()
            assert client.get("/").text == "1"
            world.gate.shut()
            assert_503(client.get("/"))
            world.gate.open()
            assert client.get("/").text == "1"

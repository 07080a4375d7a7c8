"""What changes while a page is open: parts of it as server-sent events, until the session ends."""

import json
from collections.abc import AsyncGenerator
from typing import Any, Literal

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from redis import RedisError

from ..errors import SessionUnavailable
from ..fastapi import SessionDep
from ..live import ending_when_revoked
from ..session import Session
from .pages import device, fragment, redis_panel
from .shop import Shop, ShopDep

__all__ = ["refresh", "routes"]

routes = APIRouter()
View = Literal["shop", "devices", "operator"]
#: By the id of the element that they fill.
Parts = AsyncGenerator[dict[str, str], None]
Changes = dict[str, Any]
#: No more than this share of the time goes into counting.
_SHARE = 20
_NO_CONTENT = 204  # a browser that gets this does not connect again


def refresh(scope: Any) -> Literal["never", "request"]:
    """What a page asks by itself does not keep a session alive."""
    by_itself = scope["path"] == "/session/left" or scope["path"].startswith("/live/")
    return "never" if by_itself else "request"


@routes.get("/session/left")
@routes.get("/session/stay")
async def left(session: SessionDep) -> dict[str, float | None]:
    """Say how many seconds the session lives; the second one extends it."""
    ends_in = session.expires_in
    return {"seconds": None if ends_in is None else ends_in.total_seconds()}


@routes.get("/live/{view}")
async def live(view: View, shop: ShopDep, session: SessionDep) -> Response:
    """Send the parts of a page that have changed, about once a second."""
    if session.is_new:
        return Response(status_code=_NO_CONTENT)
    return StreamingResponse(_events(view, shop, session), media_type="text/event-stream")


async def _events(view: View, shop: Shop, session: Session) -> AsyncGenerator[str, None]:
    async for changes in ending_when_revoked(_changes(view, shop, session), session):
        yield f"data: {json.dumps(changes)}\n\n"
    if (absence := session.absence) is not None:
        ended = {"kind": absence.kind, "reason": absence.reason}
        yield f"event: ended\ndata: {json.dumps(ended)}\n\n"


async def _changes(view: View, shop: Shop, session: Session) -> AsyncGenerator[Changes, None]:
    """Yield the parts that differ from what was sent before, and the TTL."""
    before: dict[str, str] = {}
    parts = {"shop": _nothing, "devices": _devices, "operator": _operator}[view]
    more = parts(shop, session)
    while True:
        try:
            panel = await redis_panel(shop, session)
            now = {"redis": fragment("parts/redis", **panel), **await anext(more, {})}
        except (SessionUnavailable, RedisError):  # nothing is known, so nothing changes
            more = parts(shop, session)  # a generator that has raised an error is over
        else:
            inside = panel["inside"]
            yield {
                "ttl": None if inside is None else inside.ttl,
                "parts": {part: html for part, html in now.items() if before.get(part) != html},
            }
            before = now
        await anyio.sleep(1)


async def _nothing(_shop: Shop, _session: Session) -> Parts:
    while True:
        yield {}


async def _devices(shop: Shop, session: Session) -> Parts:
    """The list of the user's devices, and a sentence for each that has come or gone."""
    known: dict[str, str] | None = None
    news = ""
    while session.user_id is not None:
        infos = await shop.store.users.list(session.user_id, current=session)
        names = {info.handle: device(info) for info in infos}
        if known is not None and known.keys() != names.keys():
            came = [f"{names[each]} has signed in." for each in names if each not in known]
            went = [f"{known[each]} was signed out." for each in known if each not in names]
            news = " ".join([*came, *went])
        known = names
        yield {"devices": fragment("parts/devices", devices=infos), "news": news}


async def _operator(shop: Shop, _session: Session) -> Parts:
    """The rates, each second; the figures as often as counting them is cheap."""
    left = 0.0
    while True:
        if left <= 0:
            figures = await shop.operator.figures()
            left = figures.ms / 1000 * _SHARE
        left -= 1
        yield {
            "rates": fragment("parts/rates", rates=shop.rates.all()),
            "figures": fragment("parts/figures", figures=figures),
        }

"""The app without sessions, on FastAPI."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse

from .shop import FIELDS, freeze_if_asked
from .shop_fastapi import add_routes

app = FastAPI()


@app.get("/read", response_class=PlainTextResponse)
async def read() -> str:
    return "ada"


@app.post("/write", response_class=PlainTextResponse)
async def write() -> str:
    return "2"


def _nothing() -> dict[str, Any]:
    return dict(FIELDS)


Nothing = Annotated[dict[str, Any], Depends(_nothing)]
add_routes(app, Nothing, lazy=Nothing)
freeze_if_asked()

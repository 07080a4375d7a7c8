"""The app without sessions: what every Starlette contender's cost is counted against."""

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request

from .shop import FIELDS, Sessions, make_app


class Nothing(Sessions):
    async def load(self, request: Request) -> MutableMapping[str, Any]:
        return dict(FIELDS)

    async def fetch(self, request: Request, name: str) -> Any:
        return "value"


app = make_app(Nothing(), [])

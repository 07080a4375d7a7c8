"""
A contender's app that says for how long it has had a request when it answers (`x-had-ms`).

A client can't see that: where ten thousand requests come at once, even the one that is refused on
sight is answered late, because the process has yet to come to it. $BENCH_APP names the contender.
"""

import importlib
import os
import time
from collections.abc import MutableMapping
from typing import Any


class Timed:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        begun = time.monotonic()

        async def timed_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                had = (time.monotonic() - begun) * 1000
                headers = [*message.get("headers", ()), (b"x-had-ms", b"%.1f" % had)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, timed_send)


app = Timed(importlib.import_module(f"benchmarks.contenders.{os.environ['BENCH_APP']}").app)

"""Many browsers at once, over real connections, each with a cookie jar of its own."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .serving import PATIENCE

#: How many requests are on their way at the same time.
CONNECTIONS = 32


class Answer(NamedTuple):
    status: int
    body: Any
    #: The cookies that it has set; None: deleted.
    cookies: dict[str, str | None]


class Crowd:
    """The connections that a crowd of browsers shares."""

    def __init__(self, url: str, pool: ThreadPoolExecutor) -> None:
        place = urlsplit(url)
        self._place = (place.hostname or "", place.port)
        self._pool = pool
        self._mine = threading.local()
        self._open: list[HTTPConnection] = []

    def all(self, calls: Iterable[Callable[["Crowd"], Answer]]) -> list[Answer]:
        """Make all these requests, as many at once as there are connections."""
        return list(self._pool.map(lambda call: call(self), calls))

    def request(self, method: str, path: str, cookie: str) -> Answer:
        connection = self._connection()
        connection.request(method, path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        body = response.read()
        cookies: dict[str, str | None] = {}
        for value in response.headers.get_all("set-cookie", []):
            for name, morsel in SimpleCookie(value).items():
                cookies[name] = None if "1970" in morsel["expires"] else morsel.value
        return Answer(response.status, json.loads(body), cookies)

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def _connection(self) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = HTTPConnection(*self._place, timeout=PATIENCE)
            self._mine.connection = connection
            self._open.append(connection)
        return connection


class Browser:
    """One of the crowd."""

    def __init__(self, cookies: dict[str, str] | None = None) -> None:
        self.jar = dict(cookies or {})
        self._lock = threading.Lock()

    def call(self, method: str, path: str) -> Callable[[Crowd], Answer]:
        """A request with the cookies that the browser has now, whenever it is sent."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())

        def call(crowd: Crowd) -> Answer:
            answer = crowd.request(method, path, cookie)
            with self._lock:
                for name, value in answer.cookies.items():
                    if value is None:
                        self.jar.pop(name, None)
                    else:
                        self.jar[name] = value
            return answer

        return call


@contextmanager
def crowd_at(url: str) -> Iterator[Crowd]:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        crowd = Crowd(url, pool)
        try:
            yield crowd
        finally:
            crowd.close()

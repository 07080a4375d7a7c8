"""redis-py's parser, with replies that can be read without a coroutine for each."""

from typing import Any, Final

from hiredis import PushNotification
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError

#: What `Parser.poll` returns while no whole reply has arrived.
NOT_YET: Final = object()


class Parser(DefaultParser):  # type: ignore[misc,valid-type]
    """
    The parser of a lane's connection; see `pool.py`.

    `Connection.read_response` takes 9,500 instructions more for each reply of a full batch.
    """

    def on_connect(self, connection: Any) -> None:
        """Begin to read from a connection."""
        super().on_connect(connection)
        # Nothing has arrived yet, so this is what the reader returns when data is missing.
        self._missing = self._reader.gets()

    def poll(self) -> Any:
        """Return the next reply, or `NOT_YET`. An error of Redis is returned, not raised."""
        if not self._connected:
            raise RedisConnectionError("the connection was closed")
        reply = self._reader.gets()
        while type(reply) is PushNotification:
            reply = self._reader.gets()
        return NOT_YET if reply is self._missing else reply

"""The credential provider of the app's client, which is asked again while a connection lives."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

from .reasons import reason_of


class Credentials(CredentialProvider):
    """
    What *provider* gives, and whether it gives something else by now.

    Hosted services hand out tokens that are valid for minutes, and close a connection some time
    after its token has ended. (redis-py has callbacks for new tokens, but a provider keeps one of
    them, and that is the one of the app's own client.)
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._used: Sequence[str] = ()

    async def get_credentials_async(self) -> Any:
        """Return what a new connection has to use. Raises redis-py's `ConnectionError`."""
        try:
            self._used = await self._ask()
        except Exception as error:
            name = type(error).__name__
            raise RedisConnectionError(
                f"its credential provider raised {name}: {reason_of(error)}"
            ) from error
        return self._used

    async def have_changed(self) -> bool:
        """Whether a new connection would use other credentials. A provider that fails: no."""
        try:
            now: Sequence[str] = await self._ask()
        except Exception:  # noqa: BLE001  (a connection that works is kept)
            return False
        return now != self._used

    async def _ask(self) -> Any:
        own = type(self._provider).get_credentials_async
        if own is CredentialProvider.get_credentials_async:
            # It only has the other method, which may block: it asks a service, perhaps.
            return await asyncio.to_thread(self._provider.get_credentials)
        return await self._provider.get_credentials_async()

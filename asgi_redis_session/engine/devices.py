"""
From which kinds of device a user logs in, so that an event can report a new one.

A kind is what `label_of` makes of the user agent: "Firefox on Windows". Of each user, a sorted set
holds digests of the last of them, by the time of the login, for as long as the store was asked to
remember them. It is kept apart from sessions, because those end sooner.
"""

from contextlib import suppress

from ..errors import SessionUnavailable
from ..events import Events
from ..info import can_label, label_of
from ..transport.client import Client
from . import scripts
from .links import digest_of
from .origin import RecordOrigin
from .record import Login

_OPTION = "SessionStore(remember_devices)"
#: How many kinds are remembered of one user.
_MOST = 50


class Devices:
    """The users' devices of one store. *lasts_ms* None: they are not remembered."""

    def __init__(self, client: Client, events: Events, lasts_ms: int | None) -> None:
        self._client = client
        self._events = events
        self._lasts_ms = lasts_ms

    def are_noted(self, login: Login) -> bool:
        """Whether this login is noted. That of an actor is not: the device is the actor's."""
        return self._lasts_ms is not None and login.claims.actor is None

    async def note(self, login: Login) -> None:
        """Note the device of a login that is complete, and report a new one."""
        label = None if login.agent is None else label_of(login.agent)
        arguments = (digest_of(login.user_id, label or ""), self._lasts_ms, _MOST)
        with suppress(SessionUnavailable):  # it was reported when it was raised
            reply = await self._client.call(
                scripts.DEVICE_SEEN, (self._key_of(login.user_id),), arguments
            )
            if not reply.is_known:
                detail = None if reply.others else "first"
                self._events.emit("new_device", login.handle, user_id=login.user_id, detail=detail)

    async def forget(self, user_id: str) -> None:
        """Forget all devices of a user, given as text."""
        await self._client.call(
            scripts.DROP_KEY, (self._key_of(user_id),), idempotent=True, own_connection=True
        )

    def _key_of(self, user_id: str) -> bytes:
        return self._client.key(f"devices:{digest_of('user', user_id)}")


def refuse_useless(lasts_ms: int | None, record_origin: RecordOrigin) -> None:
    """Raise `ValueError` if devices are to be remembered, and can't be told apart."""
    if lasts_ms is None:
        return
    if not can_label():
        raise ValueError(
            f"{_OPTION} needs ua-parser: install the extra `asgi-redis-session[devices]`."
        )
    if record_origin is False:
        raise ValueError(
            f"{_OPTION} needs the user agent, which record_origin=False leaves out. Give "
            "record_origin= a function that leaves out the address alone."
        )

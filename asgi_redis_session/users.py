"""The sessions of a user: listed, counted, ended. `store.users`."""

import asyncio
import builtins
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from .arguments import refuse_no_integer, refuse_other
from .engine import endings
from .engine.engine import Engine
from .engine.ids import check_user_id, is_handle
from .engine.notes import checked_reason
from .engine.pruning import dead_places, prune
from .errors import SessionValueError
from .info import SessionInfo
from .privacy import export_user
from .session import Session, state_of

__all__ = ["Users"]

_LONGEST_LIST, _FAR = 1000, 2**31


class Users:
    """
    The sessions of users, for an account page and for administrators: `store.users`.

    A user id is a non-empty str, an int or a UUID; `1` and `"1"` are one user. Every verb raises
    `SessionUnavailable`, and `SessionValueError` for an unusable user id. Verbs that end sessions
    raise `DurabilityNotReached` if a session has ended, but may come back when Redis fails, and
    `SessionUnreadable` for sessions that can't be read, when all others have ended.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(
        self,
        user_id: str | int | UUID,
        *,
        current: Session | str | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> builtins.list[SessionInfo]:  # Python 3.14 would find the method
        """
        Return the user's live sessions, the latest login first: *limit* of them from *offset* on.

        *current*: the session that asks, or its handle; it is marked in the list. The handles are
        safe to show: they end a session, and can't be used as a cookie. *limit*: at most 1,000.
        """
        for name, value, least, most in (
            ("offset", offset, 0, _FAR),
            ("limit", limit, 1, _LONGEST_LIST),
        ):
            refuse_no_integer(f"store.users.list({name})", value, least, most, SessionValueError)
        refuse_other(
            "store.users.list(current)", current, Session | str | None, "a Session or its handle"
        )
        if isinstance(current, str) and not is_handle(current):
            raise SessionValueError(
                "store.users.list(current=...) takes the session that asks, or its handle, and "
                "this str is none. Give session.handle."
            )
        engine, index = self._engine, self._engine.places.key_of(user_id)
        mine = current.handle if isinstance(current, Session) else current
        while True:
            places = await engine.places.newest(index, offset, limit)
            found = await asyncio.gather(*[engine.outside.peek(place.handle) for place in places])
            missing = [place for place, info in zip(places, found, strict=True) if info is None]
            dead = await dead_places(engine, missing)
            if not await engine.places.release_seen(index, dead):
                infos: Sequence[SessionInfo] = [info for info in found if info is not None]
                return [replace(info, current=info.handle == mine) for info in infos]

    async def count(self, user_id: str | int | UUID) -> int:
        """Return how many live sessions the user has."""
        return (await prune(self._engine, self._engine.places.key_of(user_id))).live

    async def revoke(
        self, user_id: str | int | UUID, handle: str, *, reason: str | None = None
    ) -> bool:
        """
        End one session of this user; returns whether it was one of theirs.

        The handle may come straight from a form: another user's session is not ended. *reason*: as
        for `revoke_all`.
        """
        note = checked_reason("store.users.revoke(reason)", reason)
        self._engine.places.key_of(user_id)  # refuses an unusable user id
        return is_handle(handle) and await endings.end_one(self._engine, user_id, handle, note)

    async def revoke_all(self, user_id: str | int | UUID, *, reason: str | None = None) -> int:
        """
        End all sessions of this user that logged in before the call; returns how many.

        Sessions in which they act for other users (`login(actor=...)`) end as well, and count.
        It is complete: a login, renewal or commit that runs at the same time can't leave an older
        session behind, and a login that is not committed yet while this runs is ended as well. It
        needs only reads, DEL and ZREM, which Redis accepts when it is out of memory.

        *reason*: `session.absence.reason` of their next requests, for as long as the store
        remembers ended sessions, and `detail` of the event. At most 200 printable characters, on
        one line: "password changed", say. Users may read it.
        """
        note = checked_reason("store.users.revoke_all(reason)", reason)
        return await endings.end_everywhere(self._engine, user_id, note=note)

    async def revoke_others(self, session: Session, *, reason: str | None = None) -> int:
        """
        End all sessions of this session's user but this one; returns how many (ASVS 7.4.3).

        It ends what `revoke_all` ends, but this session. *reason*: as there.
        """
        note = checked_reason("store.users.revoke_others(reason)", reason)
        refuse_other("store.users.revoke_others(session)", session, Session, "a Session")
        user_id, handle = session.user_id, session.handle
        if user_id is None:
            raise SessionValueError(
                "revoke_others: no user is logged in on this session. Call `session.login(...)` "
                "first, or use revoke_all(user_id)."
            )
        login = state_of(session).pending_login
        spared = [handle, None if login is None else login.handle]
        return await endings.end_everywhere(
            self._engine, user_id, *[name for name in spared if name is not None], note=note
        )

    async def export(self, user_id: str | int | UUID) -> Sequence[dict[str, Any]]:
        """
        Return all live sessions of a user with their fields, for a request of access to the data.

        Each is a dict that `json.dumps` takes, with the names of `SessionInfo`, the latest login
        first; instants are in ISO 8601, and an encrypted value is `"encrypted"`. Look through the
        fields before you hand them out: they are what your app has stored. Raises
        `SessionUnreadable` if a session can't be read, because the copy would not be complete.
        """
        return await export_user(self._engine, user_id)

    async def erase(self, user_id: str | int | UUID) -> int:
        """
        Erase all sessions of a user and their list, for a request of erasure; returns how many.

        It is `revoke_all`, and as complete, and forgets the user's devices (`remember_devices`).
        `docs/privacy.md` says what is left elsewhere, such as in backups. Raises what that raises.
        """
        ended = await self.revoke_all(user_id)
        await self._engine.devices.forget(check_user_id(user_id))
        return ended

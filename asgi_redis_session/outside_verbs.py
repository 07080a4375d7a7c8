"""What a store may do with sessions outside of requests: look, end, open, edit."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from .arguments import refuse_no_bool, refuse_no_function, refuse_no_integer, refuse_other
from .carrier import refuse_no_carrier
from .cookie import CookiePolicy
from .engine import scanning, verbs
from .engine.endings import end_linked
from .engine.engine import Engine
from .engine.expirations import reporting_expired
from .engine.ids import is_handle
from .engine.links import link_of
from .engine.notes import checked_reason
from .errors import SessionValueError
from .header import HeaderPolicy
from .info import SessionInfo
from .opened import OpenedSession, edit_session, open_session
from .options import Duration, milliseconds
from .session import Session

__all__ = ["OutsideVerbs"]

#: How many keys a pass looks at in a second. A SCAN of them all takes a Redis about 2 % of it.
KEYS_PER_SECOND = 20_000
_MOST_KEYS_PER_SECOND = 2**31


class OutsideVerbs:
    """The verbs of `SessionStore` on sessions that no request is using."""

    _engine: Engine

    async def get(self, handle: str) -> SessionInfo | None:
        """
        Return the session of this handle, with its fields; None if there is none.

        It does not count as use: the TTL stays as it is. Raises `SessionUnavailable`.
        """
        return await self._engine.outside.peek(handle)

    async def revoke(self, handle: str, *, reason: str | None = None) -> bool:
        """
        End the session of this handle; returns whether there was one.

        *reason*: `session.absence.reason` of its next request, as for `store.users.revoke_all`.
        Raises `SessionUnavailable`, and `DurabilityNotReached` if it has ended, but may come back
        when Redis fails.
        """
        note = checked_reason("store.revoke(reason)", reason)
        if not is_handle(handle):
            return False
        concern = self._engine.end_durability
        ending = await verbs.end_session(
            self._engine, (handle,), reason="revoked", note=note, concern=concern
        )
        if ending.shortfall is not None:
            raise ending.shortfall
        return ending.existed

    async def count(self, *, keys_per_second: int | None = KEYS_PER_SECOND) -> int:
        """
        Count all sessions, without Redis Search.

        It is a pass over all keys of Redis, also those of other prefixes, by SCAN, one master after
        the other; no session is read. *keys_per_second*: how many keys are looked at in a second,
        to leave Redis to the requests; None: as fast as possible. Sessions that begin or end
        meanwhile may be counted or not, and one that gets a new id once, twice or not at all. The
        Redis user needs `+scan`. Raises `SessionUnavailable` if the pass was not completed.
        """
        _refuse_rate("store.count(keys_per_second)", keys_per_second)
        return await scanning.count_all(self._engine, keys_per_second)

    def scan(
        self,
        user: str | int | UUID | None = None,
        *,
        idle_for: Duration | None = None,
        keys_per_second: int | None = KEYS_PER_SECOND,
    ) -> AsyncGenerator[SessionInfo, None]:
        """
        Yield all sessions, without Redis Search.

            async for info in store.scan(idle_for=timedelta(days=30)): ...

        *user*: a user id; then only that user's sessions, from their list, which is cheap. Else it
        is a pass over all keys, as for `count`, and each session is read. *idle_for*: only sessions
        that were not used for at least so long, by Redis' clock, as a timedelta or in seconds.

        Each session that exists during the whole pass is yielded under its handle; one that gets a
        new id meanwhile may be yielded under both, or under none. SCAN may show a key again: the
        last 50,000 sessions are remembered, and none of them is yielded twice. It counts as no use
        of a session. Raises what `count` raises, then after some sessions, and `SessionValueError`
        for an unusable user id.
        """
        idle_ms = _idle_ms("store.scan(idle_for)", idle_for)
        _refuse_rate("store.scan(keys_per_second)", keys_per_second)
        if user is None:
            return scanning.scan_all(self._engine, keys_per_second, idle_ms)
        return scanning.scan_user(self._engine, self._engine.places.key_of(user), idle_ms)

    async def revoke_where(
        self,
        function: Callable[[SessionInfo], bool],
        *,
        idle_for: Duration | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        keys_per_second: int | None = KEYS_PER_SECOND,
    ) -> int:
        """
        End all sessions for which *function* returns True; returns how many.

            await store.revoke_where(lambda info: info.address == "203.0.113.9", dry_run=True)

        For an operator, after an incident. It reads all sessions, as `scan` does, and repeats that
        until a pass finds none, five times at most, so that a session which gets a new id meanwhile
        is found; one that gets it during the last pass may be missed, so run it again if that
        matters. A session that begins meanwhile may be ended, too.

        *function*: a plain function of a `SessionInfo`. What it raises is passed on, and sessions
        that it was true for before have ended. *idle_for* and *keys_per_second*: as for `scan`.
        *reason*: as for `store.users.revoke_all`. *dry_run*: only count.

        Raises what `count` raises; run it again then. Raises `DurabilityNotReached` if all have
        ended, but may come back when Redis fails.
        """
        refuse_no_function("store.revoke_where(function)", function, "a function of a SessionInfo")
        idle_ms = _idle_ms("store.revoke_where(idle_for)", idle_for)
        note = checked_reason("store.revoke_where(reason)", reason)
        refuse_no_bool("store.revoke_where(dry_run)", dry_run)
        _refuse_rate("store.revoke_where(keys_per_second)", keys_per_second)
        return await scanning.end_where(
            self._engine, function, keys_per_second, idle_ms, note=note, is_trial=dry_run
        )

    def reporting_expired(self) -> AbstractAsyncContextManager[None]:
        """
        Report sessions that expire, for as long as the block runs: the event `expired`.

            async def lifespan(app):
                async with store.reporting_expired():
                    yield

        It hears what Redis says of keys that expire, on a connection of its own (on a Cluster, to
        each master), and emits an event for each session, which has its handle, and no user.
        `session.absence` then says `"expired"`, for as long as the store remembers ended sessions.
        Of all processes that do this, one reports a session.

        It is best effort. Redis reports a key when it notices that it has expired, which may be
        minutes later, and only to those that listen then. What expires while nothing listens is not
        reported. It needs `notify-keyspace-events Ex` in redis.conf, and more rights
        (`docs/deployment.md`); what is missing is a line in the log, and nothing else.
        """
        return reporting_expired(self._engine)

    async def revoke_sid(
        self, issuer: str, *, sid: str | None = None, sub: str | None = None
    ) -> int:
        """
        End what an OpenID provider has ended; returns how many sessions (back-channel logout).

        *sid* ends the sessions that were logged in with it. *sub* alone ends all of this user of
        the provider; beside a *sid* it ends those that were logged in without one. A login or a
        renewal that runs at the same time can't leave such a session behind, and a *sid* can't be
        used again for an hour. Raises `SessionUnavailable`, `DurabilityNotReached` and
        `SessionValueError`.
        """
        link = link_of("store.revoke_sid", issuer, sid, sub)
        if link is None:
            raise SessionValueError("store.revoke_sid needs the issuer, and sid, sub or both.")
        return await end_linked(self._engine, link)

    def open(
        self,
        cookie_header: str | bytes | None,
        *,
        cookie: CookiePolicy | None = CookiePolicy(),  # noqa: B008  (frozen)
        header: str | bytes | None = None,
        carrier: HeaderPolicy | None = None,
    ) -> AbstractAsyncContextManager[OpenedSession]:
        """
        Open the session of a `Cookie` header where no middleware does: in another framework, say.

            async with store.open(request.headers.get("cookie")) as opened:
                opened.session["seen"] = True
            if opened.set_cookie is not None:
                response.headers["set-cookie"] = opened.set_cookie

        `opened.session` is loaded, and committed at the end of the block; an exception drops what
        is staged. Afterwards, `opened.set_cookie` is the value of the `Set-Cookie` header to send,
        or None. *cookie*: the name and attributes of the cookie; None: there is none.
        *carrier*: a `HeaderPolicy`, for clients that send the id in a header, and *header* the
        value of that. `opened.set_header` is then the header to send. Raises what `Session.load`
        and `Session.save` raise.
        """
        takes = "a CookiePolicy, or None beside a carrier"
        refuse_other("store.open(cookie)", cookie, CookiePolicy | None, takes)
        for name, value in (("cookie_header", cookie_header), ("header", header)):
            refuse_other(f"store.open({name})", value, str | bytes | None, "a str, bytes or None")
        refuse_no_carrier("store.open", cookie, carrier)
        return open_session(self._engine, cookie_header, header, cookie, carrier)

    def edit(self, handle: str) -> AbstractAsyncContextManager[Session]:
        """
        Change somebody's session from outside: a job, a worker, an administrator.

            for info in await store.users.list(user_id):
                async with store.edit(info.handle) as session:
                    session["plan"] = "gold"

        The session is loaded, and committed at the end of the block with the same guarantees as in
        a request; an exception drops what is staged. It does not extend the TTL, unless you call
        `session.touch()`. `login` and `renew` raise `SessionTooLate`, because no browser could be
        given the new id.

        Raises `SessionGone` on entry if there is no such session, and at the end if it has ended
        meanwhile; `SessionUnavailable`; `DurabilityNotReached`. A handle changes with each login
        and renewal, so start from the user id, as above.
        """
        return edit_session(self._engine, handle)


def _refuse_rate(option: str, rate: int | None) -> None:
    if rate is not None:
        refuse_no_integer(option, rate, 1, _MOST_KEYS_PER_SECOND, SessionValueError)


def _idle_ms(option: str, idle_for: Duration | None) -> int:
    return 0 if idle_for is None else milliseconds(option, idle_for)

"""The session as the app sees it: a mapping, and the verbs that save, renew or end it."""

from collections.abc import Sequence
from typing import NoReturn, Self
from uuid import UUID

from .arguments import refuse_no_bool, refuse_other
from .engine import actions, lifetimes
from .engine.claims import Claims, checked_amr
from .engine.ids import check_actor
from .engine.links import link_of, link_to_actor
from .engine.state import SessionState
from .facts import SessionFacts
from .field_verbs import FieldVerbs
from .options import NOT_GIVEN, Durability, Duration, NotGiven

__all__ = ["Session", "state_of"]


class Session(FieldVerbs, SessionFacts):
    """
    A session: a mapping of field names to JSON-like values.

    The middleware makes it: `scope["session"]`, or `request.session` in Starlette and FastAPI. Load
    it before use (`await session.load()`); from then on it behaves like a dict. Changes inside
    lists and dicts (`session["cart"].append(…)`) are noticed. All changes are staged, and written
    in one atomic step when the response starts, or when the app calls `await session.save()`.

    Verbs that are coroutines act at once and need no load; the others are staged. To serialise the
    session, or to keep its data beyond the request, take `dict(session)`.
    """

    __slots__ = ()

    async def load(self) -> Self:
        """
        Read the session from Redis, once, and extend its TTL; returns the session itself.

        One round trip; none without a cookie, or if it was loaded already. An unknown, expired or
        unreadable session is empty. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        await actions.load(self._state)
        return self

    async def reload(self) -> Self:
        """
        Forget all staged changes, and read the session again, to see what other requests have
        written. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        await actions.load(self._state, again=True)
        return self

    async def save(self, *, durability: Durability | None = None) -> None:
        """
        Write the staged changes now.

        Use it in WebSockets, streams and background tasks, or before something that depends on it.
        It is one guarded step: all changes are written, or none; none if the session has ended. In
        a WebSocket it also extends the TTL.
        *durability*: how far the write must have got, instead of what the store says.

        Raises `SessionGone`, `SessionUnavailable`, `SessionValueError` for what can't be stored,
        and `DurabilityNotReached`: then the write is kept.
        """
        refuse_other(
            "session.save(durability)", durability, Durability | None, "a Durability or None"
        )
        await actions.commit(self._state, durability)

    async def touch(self) -> bool:
        """
        Extend the TTL now; returns whether Redis still holds the session. One round trip.

        Use it in server-sent events, long polls and WebSockets: `while await session.touch(): ...`.
        A stream that is open for longer than the idle time would otherwise outlive its session. It
        ignores `refresh_after`. Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        return await actions.touch(self._state)

    async def still_valid(self) -> bool:
        """
        Whether Redis still holds the session; leaves the TTL alone. One round trip.

        Use it in WebSockets and long streams: the session may be revoked while they are open.
        Raises `SessionUnavailable`.
        """
        self._state.accessed = True
        return await actions.still_valid(self._state)

    async def login(
        self,
        user_id: str | int | UUID,
        *,
        idle: Duration | NotGiven = NOT_GIVEN,
        absolute: Duration | NotGiven | None = NOT_GIVEN,
        issuer: str | None = None,
        sid: str | None = None,
        sub: str | None = None,
        amr: Sequence[str] = (),
        persistent: bool | None = None,
        actor: str | int | UUID | None = None,
    ) -> None:
        """
        Log a user in. Call it when they have proven who they are.

        A place in the user's list of sessions is reserved at once. With the response, the session
        gets a new id (the old one is dead from then on), a new beginning and a new deadline. Data
        of the anonymous session, or of an earlier login of the same user, is kept; another user's
        is dropped (ASVS 7.2.4).

        *user_id*: a non-empty str, an int or a UUID; `1` and `"1"` are the same user.
        *idle*, *absolute*: the lifetime of this session, as in `Lifetime`, in seconds or as a
        timedelta; longer for "remember me", for instance. What is not given is what the store says;
        `absolute=None` means no deadline.
        *persistent*: True, the cookie is kept when the browser closes (`Max-Age`); False, it ends
        with the browser; None, as the `CookiePolicy` says. Renewals keep it, the next login does
        not.
        *amr*: the methods by which they have proven it, such as `("pwd", "otp")` (RFC 8176, or
        words of your own): `session.amr` and `is_fresh(amr=...)`.
        *actor*: the user who acts for *user_id*, such as somebody of the support: `session.actor`,
        `SessionInfo.actor`. Such a session is never fresh, ends with the sessions of the actor
        (`store.users.revoke_all`), and does not count for the user's limit. Two steps more.
        *issuer*, *sid*, *sub*: `iss`, and `sid`, `sub` or both, of the ID token of an OpenID
        provider, so that its logout ends this session (`store.revoke_sid`). Two steps more.

        Raises `SessionLimitReached` (then nothing has changed), `SessionTooLate`, `SessionGone` if
        the provider has ended *sid* already,
        `SessionUnavailable`, `DurabilityNotReached` if the end of the session that makes room may
        be lost (then the user is not logged in), `SessionValueError` for an unusable user id,
        *amr* or *actor*, and `ValueError` or `TypeError` for an unusable duration or option.
        """
        if persistent is not None:
            refuse_no_bool("session.login(persistent)", persistent)
        self._state.accessed = True
        link, acting = link_of("session.login", issuer, sid, sub), None
        if actor is not None:
            acting = check_actor("session.login(actor)", actor, user_id)
            link = link_to_actor(acting, link)
        claims = Claims(checked_amr("session.login(amr)", amr), acting, link, persistent)
        await actions.login(self._state, user_id, idle, absolute, claims)

    async def logout(self) -> None:
        """
        End the session: it is gone from Redis when this returns, and the browser forgets it.

        The session is empty and new from then on; what is written to it makes another one. Without
        a session there is nothing to do. Raises `SessionUnavailable` if it can't be ended, and
        `DurabilityNotReached` if it has ended but may come back when Redis fails.
        """
        self._state.accessed = True
        await actions.logout(self._state)

    def renew(self) -> None:
        """
        Give this session a new id, and keep its data and its deadline.

        Call it when privileges change, so that an id that was planted or stolen earlier is worth
        nothing (ASVS 7.2.4). The old id is dead when the response starts; there is no grace period.
        Raises `SessionTooLate`.
        """
        self._state.renew()

    def set_lifetime(
        self,
        *,
        idle: Duration | NotGiven = NOT_GIVEN,
        absolute: Duration | NotGiven | None = NOT_GIVEN,
    ) -> None:
        """
        Let this session end sooner than it would.

        *idle*, *absolute*: as in `Lifetime`, in seconds or as a timedelta. *absolute* counts from
        the creation or the login. What is not given stays as it is. Only shorter times are
        accepted, because a session must not outlive what it was created with: a longer one raises
        `SessionValueError`. For a longer life, give it to `login`.
        """
        if idle is NOT_GIVEN and absolute is NOT_GIVEN:
            raise TypeError("session.set_lifetime needs idle= or absolute=.")
        lifetimes.shorten(self._state, idle, absolute)

    def __repr__(self) -> str:
        if not self.loaded:
            return "<Session not loaded>"
        state = self._state
        kind = "new" if state.record is None else "modified" if state.has_changes else "unchanged"
        return f"<Session {kind}, fields: {', '.join(state.fields.values) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Session belongs to its request and can't be copied or pickled. Use dict(session)."
        )


def state_of(session: Session) -> SessionState:
    """Return what the library itself works with. For this library only."""
    return session._state  # noqa: SLF001

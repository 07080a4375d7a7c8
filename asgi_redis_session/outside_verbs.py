"""What a store may do with sessions outside of requests: look, end, open, edit."""

from contextlib import AbstractAsyncContextManager

from .arguments import refuse_other
from .cookie import CookiePolicy
from .engine import verbs
from .engine.endings import end_linked
from .engine.engine import Engine
from .engine.ids import is_handle
from .engine.links import link_of
from .errors import SessionValueError
from .info import SessionInfo
from .opened import OpenedSession, edit_session, open_session
from .session import Session

__all__ = ["OutsideVerbs"]


class OutsideVerbs:
    """The verbs of `SessionStore` on sessions that no request is using."""

    _engine: Engine

    async def get(self, handle: str) -> SessionInfo | None:
        """
        Return the session of this handle, with its fields; None if there is none.

        It does not count as use: the TTL stays as it is. Raises `SessionUnavailable`.
        """
        return await self._engine.outside.peek(handle)

    async def revoke(self, handle: str) -> bool:
        """
        End the session of this handle; returns whether there was one.

        Raises `SessionUnavailable`, and `DurabilityNotReached` if it has ended, but may come back
        when Redis fails.
        """
        if not is_handle(handle):
            return False
        ending = await verbs.end_session(
            self._engine, (handle,), reason="revoked", concern=self._engine.end_durability
        )
        if ending.shortfall is not None:
            raise ending.shortfall
        return ending.existed

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
        cookie: CookiePolicy = CookiePolicy(),  # noqa: B008  (frozen)
    ) -> AbstractAsyncContextManager[OpenedSession]:
        """
        Open the session of a `Cookie` header where no middleware does: in another framework, say.

            async with store.open(request.headers.get("cookie")) as opened:
                opened.session["seen"] = True
            if opened.set_cookie is not None:
                response.headers["set-cookie"] = opened.set_cookie

        `opened.session` is loaded, and committed at the end of the block; an exception drops what
        is staged. Afterwards, `opened.set_cookie` is the value of the `Set-Cookie` header to send,
        or None. *cookie*: the name and attributes of the cookie. Raises what `Session.load` and
        `Session.save` raise.
        """
        refuse_other("store.open(cookie)", cookie, CookiePolicy, "a CookiePolicy")
        refuse_other(
            "store.open(cookie_header)", cookie_header, str | bytes | None, "a str, bytes or None"
        )
        return open_session(self._engine, cookie_header, cookie)

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

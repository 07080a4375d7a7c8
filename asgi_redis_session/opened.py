"""Sessions without a middleware: from a cookie header (`store.open`), by handle (`store.edit`)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .cookie import CookiePolicy
from .engine import actions
from .engine.engine import Engine
from .engine.ids import is_handle
from .engine.state import SessionState
from .errors import SessionGone
from .session import Session

__all__ = ["OpenedSession", "edit_session", "open_session"]

_NO_NEW_ID = (
    "A session in `store.edit` keeps its id: no browser could be given a new one. Log in, renew or "
    "begin a session in a request, or in `store.open`."
)


@dataclass(slots=True)
class OpenedSession:
    """
    What `store.open` gives.

    *session*: loaded, and to be used inside the block. *set_cookie*: after the block, the value of
    the `Set-Cookie` header that the browser needs; None if it has the right cookie already.
    *set_cookies*: the same, and the values that make the browser forget the cookies which the
    policy replaces; send each in a header of its own.
    """

    session: Session
    set_cookie: str | None = field(default=None, repr=False)
    set_cookies: Sequence[str] = field(default=(), repr=False)


@asynccontextmanager
async def open_session(
    engine: Engine, cookie_header: str | bytes | None, cookie: CookiePolicy
) -> AsyncIterator[OpenedSession]:
    """See `SessionStore.open`."""
    if isinstance(cookie_header, str):
        cookie_header = cookie_header.encode("latin-1", "replace")
    headers = [] if cookie_header is None else [(b"cookie", cookie_header)]
    sent = cookie.read(headers)
    if sent.conflicting:
        engine.reports.conflict(cookie.name)
    state = SessionState(
        engine, sent.session_id, conflicting=sent.conflicting, is_former=sent.is_former
    )
    await actions.load(state)
    opened = OpenedSession(Session(state))
    try:
        yield opened
        await actions.commit(state)
        if state.repeats_cookie:
            await actions.repeat_cookie(state)
    except BaseException:  # the block, or the commit: a login gives its place back
        state.discard()
        raise
    finally:
        # What was saved inside the block may have given the session a new id.
        _note_headers(opened, state, cookie)


@asynccontextmanager
async def edit_session(engine: Engine, handle: str) -> AsyncIterator[Session]:
    """See `SessionStore.edit`."""
    if not is_handle(handle):
        raise SessionGone
    state = SessionState(engine, handles=(handle,), extends=False)
    state.seal(_NO_NEW_ID)
    await actions.load(state)
    if state.record is None:
        raise SessionGone(state.absence)
    try:
        yield Session(state)
        await actions.commit(state)
    except BaseException:
        state.discard()
        raise


def _note_headers(opened: OpenedSession, state: SessionState, cookie: CookiePolicy) -> None:
    change = state.pop_cookie_change()
    if change is not None or state.conflicting:
        opened.set_cookies = [value.decode("latin-1") for value in cookie.headers_for(change)]
    if change is not None:
        opened.set_cookie = opened.set_cookies[-1]

"""Sessions without a middleware: from a cookie header (`store.open`), by handle (`store.edit`)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .carrier import Carrier, carrier_of
from .cookie import CookiePolicy
from .engine import actions
from .engine.engine import Engine
from .engine.ids import is_handle
from .engine.state import SessionState
from .errors import SessionGone
from .header import HeaderPolicy
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
    *set_header*: with `carrier=`, name and value of the header that the client needs instead.
    """

    session: Session
    set_cookie: str | None = field(default=None, repr=False)
    set_cookies: Sequence[str] = field(default=(), repr=False)
    set_header: tuple[str, str] | None = field(default=None, repr=False)


@asynccontextmanager
async def open_session(
    engine: Engine,
    cookie_header: str | bytes | None,
    header: str | bytes | None,
    cookie: CookiePolicy | None,
    policy: HeaderPolicy | None,
) -> AsyncIterator[OpenedSession]:
    """See `SessionStore.open`."""
    name = "" if policy is None else policy.name.lower()
    given = ((b"cookie", cookie_header), (name.encode(), header))
    headers = [(name, _as_bytes(value)) for name, value in given if value is not None]
    carrier = carrier_of(cookie, policy, headers)
    sent = carrier.read(headers)
    if sent.conflicting:
        engine.reports.conflict(carrier.places)
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
        _note_headers(opened, state, carrier)


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


def _note_headers(opened: OpenedSession, state: SessionState, carrier: Carrier) -> None:
    change = state.pop_cookie_change()
    if change is None and not state.conflicting:
        return
    for name, value in carrier.headers_for(change, None):
        text = value.decode("latin-1")
        if name == b"set-cookie":
            opened.set_cookies = [*opened.set_cookies, text]
        else:
            opened.set_header = name.decode(), text
    if change is not None and opened.set_cookies:
        opened.set_cookie = opened.set_cookies[-1]


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value

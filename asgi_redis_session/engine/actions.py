"""
What a request does with its session at once: read it, write it, log in, end it.

Each function is one verb of `Session`. It takes the session's state, sends commands by `reader`,
`hashes` and `verbs`, and notes in the state what Redis has answered. One of them runs at a time, so
that the tasks of one request can share the session. `commit` is what a response waits for: it calls
the verb that its changes need (`_verb_for`), mostly `save` in `verbs`.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ..absence import Absence
from ..cookie import CookieChange
from ..errors import SessionUnavailable, SessionValueError
from ..options import Durability, Duration, NotGiven
from ..transport.budget import one_budget
from . import verbs
from .claims import Claims
from .codec import StoredHash
from .ids import check_new_user_id
from .phases import STORED, UNLOADED
from .record import Changes, Ended, Span, span_of
from .scripts import FREE, Loaded
from .state import SessionState

INT64 = 2**63


async def load(state: SessionState, *, again: bool = False) -> None:
    """Read the session, once. *again*: even if it was read already; staged changes are dropped."""
    if state.phase is not UNLOADED and not again:
        return
    turn = state.turn
    if not turn.acquire():
        await turn.wait()
    try:
        if state.phase is not UNLOADED and not again:
            return
        handles, record, ended = state.handles(), None, None
        if handles:
            record = await state.engine.reader.load(
                handles,
                state.session_id,
                extend=state.extends,
                from_cookie=state.had_cookie,
                seen=None if state.ahead is None else state.ahead.take(),
            )
            if record is None:
                ended = await state.engine.reader.absence(handles)
        state.note_extended()
        state.adopt(record, ended)
    except SessionUnavailable as error:
        state.do_without(error)
    finally:
        turn.release()


async def check_binding(state: SessionState, text: str, *, ends: bool) -> None:
    """
    Load the session, and look whether its browser is still bound by *text*.

    If not, an event reports it, and the session is ended, if *ends* says so.
    """
    state.binding = state.engine.ids.handles(f"binding:{text}")
    await load(state)
    if not state.has_moved or (record := state.record) is None:
        return
    engine = state.engine
    engine.reports.moved(record.handle, record.metadata.user_id)
    if ends:
        ending = await verbs.end_session(
            engine, (record.handle,), reason="revoked", concern=engine.end_durability
        )
        state.adopt(None, Ended(Absence("revoked")))
        state.raise_shortfall(ending.shortfall)


async def take_over(
    state: SessionState, session_id: str, fields: Mapping[str, bytes], lasts_ms: int
) -> bool:
    """
    Go on with a session of another middleware, which becomes one of ours under *session_id*.

    Every request that comes with it finds the same one. Returns False if it was taken over before,
    and has ended. *lasts_ms*: for how long that is remembered.
    """
    engine = state.engine
    newest, *older = engine.ids.handles(session_id)
    parts, _ = engine.hashes.field_args(engine.seal(session_id, newest), Changes(dict(fields)))
    async with state.turn:
        hashes, span = engine.hashes, state.span
        known = [await hashes.take_over(each, (), span, None) for each in older]
        found = max(known, default=FREE)
        if found == FREE:
            found = await hashes.take_over(newest, parts, span, lasts_ms)
    return await go_on_as(state, session_id)


async def go_on_as(state: SessionState, session_id: str) -> bool:
    """Go on with the session of this id, if there is one, and let the browser have it."""
    async with state.turn:
        handles = state.engine.ids.handles(session_id)
        record = await state.engine.reader.load(
            handles, session_id, extend=state.extends, from_cookie=False
        )
        if record is None:
            state.adopt(None, await state.engine.reader.absence(handles))
            return False
        state.session_id, state.had_cookie = session_id, True
        state.adopt(record)
        state.repeats_cookie = True
        return True


async def fetch(state: SessionState, names: Sequence[str]) -> dict[str, Any]:
    """Read single fields, and leave the session unloaded."""
    async with state.turn:
        if state.has_no_id():
            state.adopt(None)
        if state.phase is UNLOADED:
            ended, handles = None, state.handles()
            try:
                fetched = await state.engine.reader.fetch(
                    handles, state.session_id, names, extend=state.extends
                )
                if fetched is None:
                    ended = await state.engine.reader.absence(handles)
            except SessionUnavailable as error:
                state.do_without(error)
            else:
                state.note_extended()
                if fetched is not None:
                    return fetched
                state.adopt(None, ended)
    fields = state.readable()
    return {name: fields.get(name) for name in names if name in fields.values}


async def increment(state: SessionState, name: str, amount: int) -> int:
    """Add to an integer field in Redis, or to its staged value where there is one."""
    async with state.turn:
        if state.has_no_id():
            state.adopt(None)
        if state.engine.sealing is not None:
            state.engine.sealing.refuse_sum(name)
        state.fields.refuse_one_more(name)
        if state.phase is UNLOADED or state.shows_stored(name):
            total, shortfall = await state.engine.hashes.increment(
                state.handles(),
                name,
                amount,
                extend=state.extends,
                concern=state.engine.durability,
            )
            if total is not None:
                state.note_extended()
                if state.phase is STORED:
                    state.fields.set_stored(name, total, b"%d" % total)
                state.raise_shortfall(shortfall)
                return total
            ended = await state.engine.reader.absence(state.handles())
            if state.phase is STORED:
                state.raise_gone(ended)
            state.adopt(None, ended)
    return _increment_staged(state, name, amount)


async def commit(state: SessionState, durability: Durability | None = None) -> None:
    """Write what is staged, in one guarded step."""
    if state.phase is UNLOADED:
        return
    turn = state.turn
    if not turn.acquire():
        await turn.wait()
    try:
        changes = state.collect()
        state.is_marked = False
        if state.is_emptied(changes):
            state.withdraw_login()
            await _end(state, state.handles(), durability=durability)
        elif changes and state.is_straggler and not changes.is_login:
            state.drop_straggler()
        elif changes and (state.phase is STORED or changes.fields or changes.login):
            await _write(state, changes, durability or state.engine.durability)
    finally:
        turn.release()


async def repeat_cookie(state: SessionState) -> None:
    """
    Let the browser have an id once more: under another name, or with a new Max-Age.

    Unless the session has ended while this request was running: if a login has replaced it, the
    login's answer came first, and this one must not undo it. What is left out now, the next request
    makes up for.
    """
    state.repeats_cookie = False
    if state.record is None or state.cookie_change is not None:
        return
    try:
        is_alive = await still_valid(state)
    except SessionUnavailable:
        return
    if is_alive:
        state.issue_cookie(state.record, is_new=False)


async def login(
    state: SessionState,
    user_id: str | int | UUID,
    idle: Duration | NotGiven,
    absolute: Duration | NotGiven | None,
    claims: Claims,
) -> None:
    """Reserve a place for a login, which the commit will complete."""
    user = check_new_user_id(user_id)
    span = span_of("login", state.span, idle, absolute)
    state.refuse_new_id()
    with one_budget(state.engine.client.timeout):
        await load(state)
        await _reserve(state, user, span, claims)


async def _reserve(state: SessionState, user: str, span: Span, claims: Claims) -> None:
    async with state.turn:
        state.writable()
        record, pending = state.record, state.pending_login
        replaced = [known.handle for known in (record, pending) if known is not None]
        before = state.user_id
        is_same = before is None or (before == user and state.claims.actor == claims.actor)
        keeps_data = is_same and (pending is None or pending.keeps_data)
        login = await verbs.reserve_login(
            state.engine, user, state.peer, span, replaced, claims=claims, keeps_data=keeps_data
        )
        state.withdraw_login()
        if not keeps_data:  # data of another user, or of somebody who acted for them
            state.changes = None
            state.replace_fields(StoredHash())
        changes = state.stage()
        changes.login, changes.idle_ms, changes.absolute_ms = login, None, None
        state.fields.is_cleared = False


async def logout(state: SessionState) -> None:
    """End the session."""
    async with state.turn:
        if state.conflicting and not state.record:
            # It is unknown which of them is the browser's own.
            await _end(state, *[state.engine.ids.handles(each) for each in state.conflicting])
        elif state.is_absent():
            state.adopt(None)
        else:
            await _end(state, state.handles())


async def still_valid(state: SessionState) -> bool:
    """Whether Redis still holds the session. Leaves the TTL alone."""
    async with state.turn:
        if state.is_absent():
            return False
        return await _remember(state, await state.engine.reader.exists(state.handles()))


async def touch(state: SessionState) -> bool:
    """Extend the TTL now; returns whether Redis still holds the session."""
    async with state.turn:
        if state.is_absent():
            return False
        found = await state.engine.reader.touch(state.handles())
        if found is not None:
            state.note_extended()
        return await _remember(state, found)


async def _remember(state: SessionState, found: Loaded | None) -> bool:
    """Note when the session expires, or why it does not exist; returns whether it does."""
    if found is None:
        state.note_absence(await state.engine.reader.absence(state.handles()))
    elif state.record is not None:
        state.record.extend(found.state, found.now_ms)
    return found is not None


async def _write(state: SessionState, changes: Changes, concern: Durability | None) -> None:
    # Changes made from here on belong to the next commit, even if this one fails.
    state.changes = None
    state.fields.begin_commit()
    try:
        outcome = await _verb_for(state, changes, concern)
    except BaseException:  # cancelled, too: the changes may not have arrived
        state.restage(changes)
        raise
    if outcome.record is None:
        state.raise_gone(await state.engine.reader.absence(state.handles()))
    if state.fields.ended:
        state.engine.hashes.sweep_soon(outcome.record.handle, state.fields.ended)
    state.session_id = outcome.session_id or state.session_id
    state.enter(STORED, outcome.record)
    if outcome.is_fresh:
        state.replace_fields(changes.stored())
    state.fields.committed(changes.fields)
    state.note_extended()
    if outcome.session_id is not None or changes.shortens:
        state.issue_cookie(outcome.record, is_new=outcome.session_id is not None)
    state.raise_shortfall(outcome.shortfall)


def _verb_for(
    state: SessionState, changes: Changes, concern: Durability | None
) -> Awaitable[verbs.Outcome]:
    """Call the verb that makes these changes."""
    engine, record = state.engine, state.record
    if state.binding is not None:
        changes.binding = state.binding[0]
    if changes.login is not None:
        return verbs.login(engine, record, changes, concern)
    if record is None:
        state.refuse_new_id()
        return verbs.create(engine, changes, changes.span(state.span), concern)
    verb = verbs.renew if changes.renews else verbs.save
    outcome = verb(engine, record, changes, extend=state.extends, concern=concern)
    return _identify(state, outcome, changes, concern) if changes.identifies else outcome


async def _identify(
    state: SessionState,
    renewal: Awaitable[verbs.Outcome],
    changes: Changes,
    concern: Durability | None,
) -> verbs.Outcome:
    return await verbs.begin_again(
        state.engine, await renewal, changes, changes.span(state.span), concern
    )


async def _end(
    state: SessionState, *sessions: tuple[str, ...], durability: Durability | None = None
) -> None:
    """End these sessions: the request's own, or all of which the browser has sent the ids."""
    engine, shortfall, is_known = state.engine, None, len(sessions) > 1
    for handles in sessions:
        ending = await verbs.end_session(
            engine, handles, reason="logout", concern=durability or engine.end_durability
        )
        shortfall = ending.shortfall or shortfall
        # A browser that sent an id which Redis does not know may hold a newer cookie by now.
        is_known = is_known or (ending.existed and state.had_cookie)
    state.cookie_change = CookieChange(None) if is_known else None
    state.adopt(None, Ended(Absence("logged_out")))
    state.raise_shortfall(shortfall)


def _increment_staged(state: SessionState, name: str, amount: int) -> int:
    fields = state.writable()
    current = fields.values.get(name, 0)
    if type(current) is not int or not -INT64 <= current + amount < INT64:
        raise SessionValueError(
            f"session[{name!r}] can't be incremented: it holds no integer, or the sum would "
            "not fit 64 bits."
        )
    fields.set(name, current + amount)
    return current + amount

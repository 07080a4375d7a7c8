"""
The verbs that create, move and end sessions, one function each.

Most of them touch several keys: a hash, and places in a user's index. The order of their steps is
right after each of them, so that a crash may leave a place without a session, but never a session
that no list shows. `docs/verbs.md` has the steps, and what happens between them.

A verb returns its result together with the shortfall of its write concern: a write that is done,
but not as durable as asked, does not stop the steps that follow.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from msgspec.structs import replace

from ..errors import DurabilityNotReached
from ..events import EndReason
from ..options import Durability
from ..quiet import hiding
from ..transport.budget import one_budget
from ..transport.written import Written
from . import scripts
from .claims import Claims
from .endings import abandon, delete, reserve
from .engine import Engine
from .links import Link
from .moves import move_logged_in, move_renewed
from .origin import origin_of
from .pruning import prune_some_soon
from .record import Changes, Login, PeerInfo, Record, Span
from .scripts import CHANGED, GONE, TAKEN

P = ParamSpec("P")
R = TypeVar("R")


@hiding("session_id")
class Outcome(NamedTuple):
    """
    What a verb has made of a session.

    *record* None: the session has ended, and nothing was written. *session_id*: its new id; None if
    it has kept the old one. *is_fresh*: it holds what was written now, and nothing of before.
    """

    record: Record | None
    session_id: str | None = None
    shortfall: DurabilityNotReached | None = None
    is_fresh: bool = False


class Ending(NamedTuple):
    """Whether there was a session to end."""

    existed: bool
    shortfall: DurabilityNotReached | None = None


def of_several_steps(
    verb: Callable[Concatenate[Engine, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Engine, P], Coroutine[Any, Any, R]]:
    """Let all steps of a verb share one timeout, so that its caller waits no longer than that."""

    @wraps(verb)
    async def within(engine: Engine, /, *arguments: P.args, **options: P.kwargs) -> R:
        with one_budget(engine.client.timeout):
            return await verb(engine, *arguments, **options)

    return within


# --- Write ---


async def create(
    engine: Engine, changes: Changes, span: Span, concern: Durability | None
) -> Outcome:
    """Create an anonymous session that lives as long as *span* says."""
    while True:
        session_id, handle = engine.ids.new()
        seal = engine.seal(session_id, handle)
        # 1. create.lua under a new key. TAKEN: there is a session under it, so draw another id.
        reply, shortfall = await engine.hashes.create(handle, changes, span, concern, seal)
        if reply.state != TAKEN:
            break
    engine.events.counted.commits += 1
    engine.events.emit("created", handle)
    record = Record.begin(handle, reply.state, reply.now_ms, span, None, seal=seal)
    return Outcome(record, session_id, shortfall)


async def begin_again(
    engine: Engine, outcome: Outcome, changes: Changes, span: Span, concern: Durability | None
) -> Outcome:
    """
    After a renewal: if the session had ended, create one that holds these changes alone.

    For changes that identify the user: a parallel login, for instance, must not lose them.
    """
    if outcome.record is not None:
        return outcome
    return (await create(engine, changes, span, concern))._replace(is_fresh=True)


async def save(
    engine: Engine, record: Record, changes: Changes, *, extend: bool, concern: Durability | None
) -> Outcome:
    """
    Write changes, if the session still exists; if not, they are dropped, and an event reports it.

    What both scripts answer is in `scripts`: `State` and `Saved`.
    """
    hashes, write, keys = engine.hashes, engine.client.write, (engine.client.key(record.handle),)
    arguments = None if extend else hashes.commit_args(record, changes)
    if arguments is not None:
        # 1. commit.lua, which takes half as long: compare what was loaded, then HSET.
        written, shortfall = await write(scripts.COMMIT, keys, arguments, concern=concern)
        if written.state != CHANGED:
            engine.events.counted.commits += 1
            return Outcome(record, None, shortfall)
    # 2. save.lua, if that was CHANGED, or is not enough: look whether it exists, then write.
    arguments = hashes.save_args(record, changes, record.seal, extend=extend)
    reply, shortfall = await write(scripts.SAVE, keys, arguments, concern=concern)
    if reply.state <= 0:  # GONE: revoked meanwhile, for instance. The caller raises `SessionGone`
        engine.reports.gone(record.handle, reply.state, record.metadata.user_id)
        return Outcome(None)
    engine.events.counted.commits += 1
    if changes.shortens:
        engine.reader.shortened(record.handle)
    return Outcome(_saved(record, reply, changes), None, shortfall)


@of_several_steps
async def renew(
    engine: Engine, record: Record, changes: Changes, *, extend: bool, concern: Durability | None
) -> Outcome:
    """Write changes, and give the session a new id."""
    places, user_id, old = engine.places, record.metadata.user_id, record.handle
    index = None if user_id is None else places.key_of(user_id)
    since_ms = None
    while True:
        session_id, handle = engine.ids.new()
        if index is not None:
            # 1. Reserve a place under the new handle, with the old login time.
            since_ms = await places.move(index, record, handle)
            prune_some_soon(engine, index)
        # 2. save.lua with both keys. In a Cluster: take the session, put it under the new key.
        seal = engine.seal(session_id, handle)
        reply, shortfall = await move_renewed(
            engine, record, handle, seal, changes, extend=extend, concern=concern
        )
        if reply.state != TAKEN:
            break
    if reply.state <= 0:
        engine.reports.gone(old, reply.state, user_id)
        if index is not None:
            await places.release(index, handle)
        return Outcome(None)
    record.handle, record.seal = handle, seal
    record = _saved(record, reply, changes)
    if index is not None:
        # 3. Confirm the new place. 4. Give the old one back.
        is_kept, missed = await _keep_place(
            engine, index, record, since_ms, replaced=old, concern=concern
        )
        if not is_kept:
            return Outcome(None)
        shortfall = missed or shortfall
    # 5. As for a login.
    if (link := record.claims.link) is not None and await _has_been_ended(engine, link, handle):
        return Outcome(None)
    engine.events.counted.commits += 1
    engine.events.emit("renewed", handle, user_id=user_id)
    return Outcome(record, session_id, shortfall)


# --- Log in ---


async def reserve_login(
    engine: Engine,
    user_id: str,
    peer: PeerInfo,
    span: Span,
    replaced: Sequence[str],
    *,
    claims: Claims,
    keeps_data: bool,
) -> Login:
    """
    Reserve a place in the user's index for a login: the first of its steps.

    *replaced*: handles whose places the login will take over. *claims*: a link to the session of
    an identity provider is entered before. Raises `SessionLimitReached`, and `SessionGone` if the
    provider has ended that session; then nothing has changed.
    """
    address, agent = origin_of(peer, engine.record_origin)  # may raise: before anything is written
    if claims.link is not None:
        link = await engine.providers.enter(claims.link, user_id, span.absolute_ms)
        claims = replace(claims, link=link)
    session_id, handle = engine.ids.new()
    index = engine.places.key_of(user_id)
    now_ms = await reserve(
        engine, index, handle, span.absolute_ms, replaced, is_counted=claims.actor is None
    )
    return Login(
        user_id=user_id,
        index=index,
        session_id=session_id,
        handle=handle,
        now_ms=now_ms,
        span=span,
        agent=agent,
        address=address,
        keeps_data=keeps_data,
        claims=claims,
    )


def abandon_login(engine: Engine, login: Login) -> None:
    """Give up a login: its place goes, and what a lost commit of it may have written."""
    abandon(engine, login.index, login.handle)


@of_several_steps
async def login(
    engine: Engine, record: Record | None, changes: Changes, concern: Durability | None
) -> Outcome:
    """
    Complete a login, which has reserved its place.

    *record*: the session on which the user logs in, if Redis holds one. If it has ended meanwhile
    (by a second login at the same time, for instance), the login is carried out without its data.
    The result has no record if the place was revoked meanwhile.
    """
    login = changes.login
    assert login is not None  # noqa: S101  (the caller looks)
    index, span = login.index, changes.span(login.span)
    seal = engine.seal(login.session_id, login.handle)
    # 2. The hash: login.lua moves the old session to the new key, create.lua begins without it.
    written: Written[Any] = Written(None)
    is_fresh = record is None or not login.keeps_data
    if record is not None and login.keeps_data:
        written = await move_logged_in(engine, record, seal, changes, span, concern=concern)
        is_fresh = written.reply.state == GONE
    if is_fresh:
        written = await engine.hashes.create(login.handle, changes, span, concern, seal)
    reply, shortfall = written
    if reply.state <= 0:
        # An earlier try of this login may have written its hash, and its reply was lost.
        await delete(engine, login.handle, "login_failed")
        await engine.places.release(index, login.handle)
        engine.reports.gone(login.handle, GONE, login.user_id)
        return Outcome(None)
    engine.events.counted.commits += 1
    began = Record.begin(login.handle, reply.state, reply.now_ms, span, login, seal=seal)
    # 3. Confirm the place. 4. An earlier login on this session: give its place back.
    is_listed = record is not None and login.keeps_data and record.metadata.user_id is not None
    replaced = record.handle if record is not None and is_listed else None
    is_kept, missed = await _keep_place(
        engine, index, began, None, replaced=replaced, concern=concern
    )
    if not is_kept:
        return Outcome(None)
    shortfall = missed or shortfall
    link = login.claims.link
    if link is not None and await _has_been_ended(engine, link, login.handle):
        # 5. The identity provider has ended what the user has logged in on.
        return Outcome(None)
    if record is not None and not login.keeps_data:
        # Or another user's session: end it.
        ending = await end_session(
            engine, (record.handle,), reason="replaced", concern=engine.end_durability
        )
        shortfall = ending.shortfall or shortfall
    if engine.devices.are_noted(login):
        engine.background.start(engine.devices.note(login))
    actor = login.claims.actor
    engine.events.emit("logged_in", login.handle, user_id=login.user_id, actor=actor)
    return Outcome(began, login.session_id, shortfall, is_fresh)


# --- End ---


@of_several_steps
async def end_session(
    engine: Engine,
    handles: tuple[str, ...],
    *,
    reason: EndReason,
    note: str | None = None,
    concern: Durability | None,
    own_connection: bool = False,
) -> Ending:
    """
    End the session that has one of these handles. *note*: the reason in the caller's own words.

    The shortfall may be set even if there was no session: an earlier try may have ended it, and
    that end may still be lost.
    """
    shortfall = None
    for handle in handles:
        # 1. end.lua: delete the hash, and leave a tombstone that says why.
        user_id, missed, _ = await delete(
            engine, handle, reason, note=note, concern=concern, own_connection=own_connection
        )
        shortfall = missed or shortfall
        if user_id is None:
            continue
        # 2. Give its place back. A session that may come back stays listed, so that `revoke_all`
        # would find it.
        if user_id and shortfall is None:
            index = engine.places.key_of(user_id)
            await engine.places.release(index, handle, own_connection=own_connection)
        return Ending(existed=True, shortfall=shortfall)
    return Ending(existed=False, shortfall=shortfall)


# --- Steps ---


async def _has_been_ended(engine: Engine, link: Link, handle: str) -> bool:
    """Look whether what the session is tied to has ended, and end the session then."""
    if not await engine.providers.has_ended(link):
        return False
    await end_session(engine, (handle,), reason="revoked", concern=engine.end_durability)
    return True


async def _keep_place(
    engine: Engine,
    index: bytes,
    record: Record,
    since_ms: int | None,
    *,
    replaced: str | None,
    concern: Durability | None,
) -> tuple[bool, DurabilityNotReached | None]:
    """
    Confirm the place of a hash that was just written, then give back the one that it replaces.

    Until then the hash lives for a few seconds, so that it vanishes if this step is never done.
    Returns whether the place was still there, and the shortfall. If it was revoked meanwhile, the
    hash is deleted again.
    """
    confirmed, shortfall = await engine.places.confirm(index, record, since_ms, concern)
    is_kept = bool(confirmed.is_held)
    if is_kept and engine.client.is_sharded:
        key, expires_ms = engine.client.key(record.handle), record.expires_ms
        kept, missed = await engine.client.write(
            scripts.KEEP, (key,), (expires_ms,), concern=concern
        )
        is_kept, shortfall = kept.state > 0, missed or shortfall
    if not is_kept:
        reason: EndReason = "login_failed" if since_ms is None else "revoked"
        await delete(engine, record.handle, reason)
        engine.reports.gone(record.handle, GONE, record.metadata.user_id)
        return False, None
    if replaced is not None:
        await engine.places.release(index, replaced)
    return True, shortfall


def _saved(record: Record, reply: Any, changes: Changes) -> Record:
    """Note in the record what save.lua has answered."""
    record.extend(reply.state, reply.now_ms)
    if changes.shortens:  # another request may have shortened it even more
        record.shorten(reply.idle_ms, reply.deadline_ms or None)
    return record

"""Sockets and streams that end with their session."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

import anyio

from .arguments import refuse_other
from .errors import SessionUnavailable
from .options import Duration, milliseconds
from .session import Session, state_of

__all__ = ["ending_when_revoked", "until_ended"]

T = TypeVar("T")


async def until_ended(session: Session, seconds: float) -> None:
    """
    Return soon after the session has ended.

    *seconds*: how often Redis is asked where the store does not push. While it is down, the session
    counts as one that exists.
    """
    state = state_of(session)
    while await _is_valid(session):
        await state.engine.watches.may_have_ended(state.handles(), seconds)


def ending_when_revoked(
    stream: AsyncIterable[T], session: Session, *, every: Duration = 0.5
) -> AsyncGenerator[T, None]:
    """
    Yield what *stream* yields, until soon after the session has ended: for server-sent events.

        return StreamingResponse(ending_when_revoked(prices(), session))

    When the session ends, the stream is closed, also while it waits for something; afterwards
    `session.absence` says why. It does not extend the session's TTL. *every*: as for
    `closing_when_revoked`. While Redis is down, the stream goes on.
    """
    refuse_other("ending_when_revoked(stream)", stream, AsyncIterable, "an async iterable")
    refuse_other("ending_when_revoked(session)", session, Session, "a Session")
    seconds = milliseconds("ending_when_revoked(every)", every) / 1000
    return _ending(stream, session, seconds)


async def _ending(
    stream: AsyncIterable[T], session: Session, seconds: float
) -> AsyncGenerator[T, None]:
    items = aiter(stream)
    step = anyio.CancelScope()
    ended = asyncio.create_task(until_ended(session, seconds))
    ended.add_done_callback(lambda _: step.cancel())
    try:
        while not ended.done():
            # Around each step, and never around a yield: a scope belongs to one task.
            with anyio.CancelScope() as step:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
            if step.cancelled_caught:
                break
            yield item
    finally:
        ended.cancel()
        await asyncio.wait([ended])
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _is_valid(session: Session) -> bool:
    try:
        return await session.still_valid()
    except SessionUnavailable:
        return True

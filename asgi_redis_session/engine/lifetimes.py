"""How long one session lives: what it has, and how it is shortened. No I/O here."""

from ..errors import SessionValueError
from ..options import NOT_GIVEN, Duration, NotGiven
from .record import Span, span_of
from .state import SessionState


def shorten(
    state: SessionState, idle: Duration | NotGiven, absolute: Duration | NotGiven | None
) -> None:
    """Let the session end sooner."""
    state.writable()
    limit = _current_span(state)
    wanted = span_of("set_lifetime", limit, idle, absolute)
    if wanted.idle_ms > limit.idle_ms:
        raise _too_long("idle", limit.idle_ms)
    if limit.absolute_ms is not None and (
        wanted.absolute_ms is None or wanted.absolute_ms > limit.absolute_ms
    ):
        raise _too_long("absolute", limit.absolute_ms)
    changes = state.stage()
    if idle is not NOT_GIVEN:
        changes.idle_ms = wanted.idle_ms
    if absolute is not NOT_GIVEN:
        changes.absolute_ms = wanted.absolute_ms


def _current_span(state: SessionState) -> Span:
    """How long the session lives as it is."""
    login, record, default = state.pending_login, state.record, state.span
    if login is not None:
        return login.span
    if record is None:
        return default
    deadline_ms = record.metadata.deadline_ms
    absolute_ms = None if deadline_ms is None else deadline_ms - record.metadata.created_ms
    return Span(record.metadata.idle_ms or default.idle_ms, absolute_ms)


def _too_long(half: str, limit_ms: int) -> SessionValueError:
    return SessionValueError(
        f"session.set_lifetime may only shorten a session's life, and {half} would be longer than "
        f"its {limit_ms / 1000:g} s. Give a shorter one, or a longer Lifetime to the SessionStore "
        "or to `login`."
    )

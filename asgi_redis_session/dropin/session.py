"""`request.session` as Starlette's apps know it: a dict, compared when the response starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from ..engine.codec import StoredHash, encode_as_json
from ..engine.engine import Engine
from ..engine.mirror import MirrorFields, stored_name
from ..engine.phases import STAND_IN, STORED
from ..engine.record import Changes, Record, Span
from ..engine.state import SessionState
from ..errors import SessionValueError
from ..options import Limits

__all__ = ["LIMITS", "DictState", "Rules", "Session"]

#: What a cookie can hold is no measure here, so these are four times those of a store.
LIMITS = Limits(fields=1024, field_bytes=262_144, session_bytes=1_048_576)


class Session(dict[str, Any]):
    """
    `request.session`: a dict with storage of its own.

    It can do what Starlette's can. What has changed is found by comparing values when the response
    starts, so changes inside lists and dicts are saved, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_accessed = self._is_marked = False
        given = Changes({stored_name(k): encode_as_json(v) for k, v in dict.items(self)})
        self._fields = MirrorFields(LIMITS, {}, given.stored(), self, encode_as_json)

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, so that the response varies with the cookie."""
        return self._is_accessed or self.modified

    @property
    def modified(self) -> bool:
        """Whether there is something to write. Assigning True is the same as `mark_modified()`."""
        try:
            return self._is_marked or bool(self._fields.collect())
        except SessionValueError:
            return True

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = bool(value)

    def mark_accessed(self) -> None:
        """Note that the app has used the session. Starlette's `request.session` calls it."""
        self._is_accessed = True

    def mark_modified(self) -> None:
        """Note a change, as in Starlette 1.0. Not needed: every change is noticed."""
        self._is_accessed = self._is_marked = True

    # Starlette before 1.0 does not call `mark_accessed`, so reading is noticed as well.

    def __getitem__(self, key: str) -> Any:
        self._is_accessed = True
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._is_accessed = True
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._is_accessed = True
        return super().__iter__()

    def __len__(self) -> int:
        self._is_accessed = True
        return super().__len__()

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return a value, or *default*."""
        self._is_accessed = True
        return super().get(key, default)

    def keys(self) -> Any:
        """Return the names."""
        self._is_accessed = True
        return super().keys()

    def values(self) -> Any:
        """Return the values."""
        self._is_accessed = True
        return super().values()

    def items(self) -> Any:
        """Return names and values."""
        self._is_accessed = True
        return super().items()

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[Any, ...]:
        return dict, (dict(self),)  # a copy belongs to no request


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What all sessions of a middleware have in common."""

    span: Span
    renew_on: frozenset[str]
    to_bytes: Any
    #: For how long the browser keeps the cookie; None: until it closes.
    max_age_ms: int | None


class DictState(SessionState):
    """A session that the app sees as a dict."""

    __slots__ = ("_rules", "session")

    def __init__(
        self, rules: Rules, engine: Engine, session_id: str | None, *of_request: Any
    ) -> None:
        self._rules = rules
        self.session = Session()
        super().__init__(engine, session_id, *of_request, span=rules.span)

    @property
    def accessed(self) -> bool:
        """Whether the app has used it, or has changed it."""
        return self.session._is_accessed  # noqa: SLF001

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self.session._is_accessed = value  # noqa: SLF001

    @property
    def may_have_changes(self) -> bool:
        """True, because nothing watches the app's dict."""
        return self.fields is not self.engine.no_fields

    def replace_fields(self, stored: StoredHash) -> None:
        """Fill the app's dict with other fields."""
        self.fields = self.session._fields = MirrorFields(
            self.engine.limits,
            self.engine.shadows.checks,
            stored,
            self.session,
            self._rules.to_bytes,
        )

    def collect(self) -> Changes:
        """Return what has changed, and a new id if that identifies the user."""
        changes = super().collect()
        if changes.fields:
            self.accessed = True
            if self.phase is STAND_IN:
                self.writable()  # raises
            if self._identifies(changes.fields):
                self.refuse_new_id()
                changes.identifies, changes.renews = True, self.phase is STORED
        self.repeats_cookie = self.repeats_cookie or self._is_cookie_due(changes)
        return changes

    def _identifies(self, fields: Mapping[str, bytes | None]) -> bool:
        return any(fields.get(name) is not None for name in self._rules.renew_on & fields.keys())

    def _is_cookie_due(self, changes: Changes) -> bool:
        """
        Whether the browser should get its cookie again, with its whole Max-Age.

        Starlette sends it with each write. Here the first write in each hundredth of Max-Age does,
        because an answer with an id that comes later than that of a login would undo the login. So
        does each read, when half of Max-Age has passed since the last write.
        """
        record, max_age_ms = self.record, self._rules.max_age_ms
        if record is None or max_age_ms is None or not self.accessed:
            return False
        now_ms, written_ms = record.now_ms, _last_write_ms(record)
        if changes.fields:
            period = max(1, max_age_ms // 100)
            return now_ms // period != written_ms // period
        return now_ms - written_ms > max_age_ms // 2


def _last_write_ms(record: Record) -> int:
    """When the session was last written, before this request."""
    return record.metadata.seen_ms or record.metadata.created_ms

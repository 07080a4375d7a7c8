"""What a request has staged in its session, beside what Redis holds of it."""

from ..errors import SessionValueError
from . import verbs
from .claims import NONE, Claims
from .codec import StoredHash
from .engine import Engine
from .fields import Fields
from .phases import STORED, UNLOADED, Phase
from .record import Changes, Login, Record
from .timed_fields import TimedFields


class Staged:
    """
    The part of a session's state that a commit writes, or a failure drops.

    `SessionState` is its only subclass, and sets all attributes itself: one is made for each
    request, so that a second constructor would count.
    """

    __slots__ = ("changes", "engine", "fields", "is_marked", "phase", "record")

    engine: Engine
    phase: Phase
    #: What Redis holds of the session; None in every phase but STORED.
    record: Record | None
    #: Its fields. While nothing was read, an empty object that all sessions share.
    fields: Fields
    #: What is staged beside fields; None: nothing.
    changes: Changes | None
    #: Whether the app has called `mark_modified`.
    is_marked: bool

    @property
    def may_have_changes(self) -> bool:
        """True if there may be something to write. Cheaper than `has_changes`, which compares."""
        fields = self.fields
        changed = fields.staged or fields.live or fields.typed or fields.is_cleared
        return self.changes is not None or bool(changed)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to write."""
        if self.phase is UNLOADED:
            return False
        try:
            changes = self.collect()
        except SessionValueError:
            return True
        return bool(changes) or self.is_emptied(changes)

    @property
    def pending_login(self) -> Login | None:
        """The login that the next commit will complete."""
        return None if self.changes is None else self.changes.login

    @property
    def user_id(self) -> str | None:
        """Who is logged in."""
        login, record = self.pending_login, self.record
        return login.user_id if login is not None else record.metadata.user_id if record else None

    @property
    def handle(self) -> str | None:
        """The session's public name; None while Redis holds nothing of it."""
        return None if self.record is None else self.record.handle

    @property
    def auth_ms(self) -> int | None:
        """When the user logged in."""
        login, record = self.pending_login, self.record
        return login.now_ms if login is not None else record.metadata.auth_ms if record else None

    @property
    def claims(self) -> Claims:
        """What the app says of the login."""
        login, record = self.pending_login, self.record
        return login.claims if login is not None else record.claims if record else NONE

    def collect(self) -> Changes:
        """Return everything that is staged. Raises `SessionValueError`."""
        changes = self.changes or Changes()
        changes.fields = self.fields.collect()
        changes.ttls = self.fields.ttls
        return changes

    def stage(self) -> Changes:
        """Return what is staged beside fields, to be added to."""
        if self.changes is None:
            self.changes = Changes()
        return self.changes

    def restage(self, changes: Changes) -> None:
        """Stage changes again whose commit has failed; newer ones win."""
        self.fields.restage(changes.fields)
        changes.fields = {}
        self.changes = changes.before(self.changes or Changes())

    def replace_fields(self, stored: StoredHash) -> None:
        """Show other fields: what Redis returned, or none. What was staged is forgotten."""
        engine = self.engine
        kind = Fields if type(stored) is StoredHash else TimedFields
        self.fields = kind(engine.limits, engine.shadows.checks, stored)

    def withdraw_login(self) -> None:
        """Give up a login that is not committed, if there is one."""
        if self.changes is not None and self.changes.login is not None:
            verbs.abandon_login(self.engine, self.changes.login)
            self.changes.login = None

    def is_emptied(self, changes: Changes) -> bool:
        """Whether the app has emptied the session in a way that ends it."""
        record, login = self.record, changes.login
        if self.fields.values or (record is None and login is None):
            return False
        has_user = login is not None or (record is not None and record.metadata.user_id is not None)
        return self.fields.is_cleared or (bool(changes.fields) and not has_user)

    def shows_stored(self, name: str) -> bool:
        """Whether what the app sees of this field is what Redis holds."""
        login = self.pending_login
        keeps_data = login is None or login.keeps_data
        return self.phase is STORED and keeps_data and self.fields.is_unchanged(name)

"""
The Lua scripts by name, the states that they answer, and their replies as named results.

Every script answers `{KEYS[1], ...}`: the lane compares that key with the one it sent, so that no
reply reaches another session. Scripts on a session's hash answer its state next: above 0 it is an
instant (mostly when the session expires), else one of the codes below.

To find who sends `lua/save.lua`, look for `scripts.SAVE`, its name at the end of this file. Beside
the name is the named tuple that it answers. The file begins with its keys and arguments.
"""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

from ..quiet import hiding
from ..transport.proof import PROVE
from ..transport.scripts import Script

# The states, as lua/common.lua has them; a test compares both.
GONE = 0  # no such session: it has ended, or it has expired
CORRUPT = -1  # there is something under the key that this library does not read
TAKEN = -2  # there is a session under the new key already
FOREIGN = -3  # the session belongs to another user
FULL = -4  # the session has as many fields as allowed
CHANGED = -5  # another request has changed the session since it was read
FREE = -6  # there is no session, and there was none
LARGE = -7  # the field would hold more bytes than allowed


class State(NamedTuple):
    """
    Only the state; 1 if all went well.

    commit.lua (else CHANGED, also if the session is gone), write_if_same.lua, put_back.lua,
    bury.lua, keep.lua, sweep.lua, announce.lua, expiring.lua, expired.lua.
    """

    key: bytes
    state: int


@hiding("fields")
class Loaded(NamedTuple):
    """
    load.lua: *state* is when the session expires; *fields* as HGETALL or HMGET answers.

    *timed*: the names of those that have a TTL, if single ones were read.
    """

    key: bytes
    state: int
    now_ms: int = 0
    fields: Sequence[Any] = ()
    timed: Sequence[bytes] = ()


class Began(NamedTuple):
    """
    create.lua, import.lua, login.lua: *state* is when the session expires.

    Else TAKEN for create.lua and login.lua; GONE, CORRUPT or FOREIGN for login.lua, which reads the
    old session; GONE or FREE for import.lua.
    """

    key: bytes
    state: int
    now_ms: int = 0


class Saved(NamedTuple):
    """
    save.lua: *state* is when the session expires; else GONE or CORRUPT, and TAKEN in a renewal.

    *deadline_ms* 0: it has no deadline.
    """

    key: bytes
    state: int
    now_ms: int = 0
    idle_ms: int = 0
    deadline_ms: int = 0


@hiding("digits")
class Incremented(NamedTuple):
    """increment.lua: *digits* is the sum; None if the field holds no integer or would overflow."""

    key: bytes
    state: int
    now_ms: int = 0
    digits: bytes | None = None


@hiding("raw")
class Field(NamedTuple):
    """
    swap.lua, take_field.lua: *raw* is what the field holds, or held; None if it is not there.

    *field*: its name in the hash, which is another one if it has a TTL.
    """

    key: bytes
    state: int
    now_ms: int = 0
    raw: bytes | None = None
    field: bytes = b""


@hiding("raw")
class Appended(NamedTuple):
    """
    append.lua: *items* is how many there are now; 0 if the field holds no list.

    *raw*: the list; None if it was not asked for.
    """

    key: bytes
    state: int
    now_ms: int = 0
    items: int = 0
    raw: bytes | None = None


class Ended(NamedTuple):
    """end.lua: *user* is who was logged in."""

    key: bytes
    state: int
    user: bytes | None = None


class Watched(NamedTuple):
    """watch.lua: when each session expires; 0: it has ended."""

    key: bytes
    now_ms: int
    instants: Sequence[int]


class Missing(NamedTuple):
    """
    absence.lua: *is_occupied* 1: there is something that can't be read. *kind*: why it ended.

    *note*: "=", and the reason that was given.
    """

    key: bytes
    now_ms: int
    is_occupied: int
    kind: bytes | None = None
    since: bytes | None = None
    note: bytes | None = None


@hiding("packed")
class TakenHash(NamedTuple):
    """take_hash.lua: *packed* is the session, for restore.lua."""

    key: bytes
    state: int
    now_ms: int = 0
    packed: bytes = b""


@hiding("fields")
class Stale(NamedTuple):
    """reseal.lua: *state* is CHANGED, and *fields* are those that there are, as HGETALL answers."""

    key: bytes
    state: int
    now_ms: int
    fields: Sequence[bytes]


@hiding("raw")
class Original(NamedTuple):
    """read_original.lua: *raw* is the session of another library; None if there is none."""

    key: bytes
    raw: bytes | None = None


class Dropped(NamedTuple):
    """drop_key.lua: how many keys were deleted."""

    key: bytes
    dropped: int


class Reserved(NamedTuple):
    """
    place_reserve.lua: *is_granted* 0: the index is full. *victims*: places that have to go.

    *others*: how many places there are that the login does not replace.
    """

    key: bytes
    is_granted: int
    now_ms: int
    victims: Sequence[bytes]
    others: int = 0
    was_occupied: int = 0


class Moved(NamedTuple):
    """place_move.lua: *since_ms* is the session's login time."""

    key: bytes
    is_granted: int
    since_ms: int
    was_occupied: int = 0


class Confirmed(NamedTuple):
    """place_confirm.lua: *is_held* 0: the place was revoked, or the hash is gone."""

    key: bytes
    is_held: int


class Released(NamedTuple):
    """place_release.lua: how many places were given back."""

    key: bytes
    released: int


class Page(NamedTuple):
    """place_list.lua: *places* are handles and scores in turn."""

    key: bytes
    now_ms: int
    places: Sequence[bytes]
    was_occupied: int = 0


class Found(NamedTuple):
    """place_find.lua: a handle and its score, or nothing."""

    key: bytes
    place: Sequence[bytes]
    was_occupied: int = 0


class Entered(NamedTuple):
    """provider_enter.lua: *entered_ms* GONE: the provider has ended it."""

    key: bytes
    entered_ms: int


class Checked(NamedTuple):
    """provider_check.lua."""

    key: bytes
    has_ended: int


class DeviceSeen(NamedTuple):
    """device_seen.lua: *others* is how many other kinds of device the user is known to have."""

    key: bytes
    is_known: int
    others: int


class Members(NamedTuple):
    """provider_revoke.lua: *members* are users, as `user:…`, and the note of the end."""

    key: bytes
    now_ms: int
    members: Sequence[bytes]


_R = TypeVar("_R")
#: What is put in front of scripts, and is no part of their names.
_IN_FRONT = {"common.lua", "places_common.lua", "unlisted.lua"}
_FOLDER = files(__package__) / "lua"


def _script(result: Callable[..., _R], *names: str, called: str | None = None) -> Script[_R]:
    """Read a script; the files before the last one are put in front of it."""
    text = "".join([(_FOLDER / name).read_text() for name in names])
    parts = [name.removesuffix(".lua") for name in names if name not in _IN_FRONT]
    return Script(called or "+".join(parts), text, result)


def _resealing(result: Callable[..., _R], called: str, *names: str) -> Script[_R | Stale]:
    """Read a script that moves an encrypted session."""

    def result_of(key: bytes, state: int, *rest: Any) -> _R | Stale:
        return Stale(key, state, *rest) if state == CHANGED else result(key, state, *rest)

    return _script(result_of, "common.lua", "reseal.lua", *names, called=called)


LOAD = _script(Loaded, "common.lua", "load.lua")
COMMIT = _script(State, "commit.lua")
SAVE = _script(Saved, "common.lua", "save.lua")
RENEW = _script(Saved, "common.lua", "unlisted.lua", "save.lua", called="renew")
CREATE = _script(Began, "common.lua", "unlisted.lua", "create.lua")
LOGIN = _script(Began, "common.lua", "unlisted.lua", "login.lua")
INCREMENT = _script(Incremented, "common.lua", "increment.lua")
APPEND = _script(Appended, "common.lua", "append.lua")
SWEEP = _script(State, "common.lua", "sweep.lua")
SWAP = _script(Field, "common.lua", "swap.lua")
TAKE_FIELD = _script(Field, "common.lua", "take_field.lua")
END = _script(Ended, "common.lua", "end.lua")
BURY = _script(State, "common.lua", "bury.lua")
ANNOUNCE = _script(State, "common.lua", "announce.lua")
WATCH = _script(Watched, "common.lua", "watch.lua")
EXPIRING = _script(State, "common.lua", "expiring.lua")
EXPIRED = _script(State, "common.lua", "expired.lua")
ABSENCE = _script(Missing, "absence.lua")
WRITE_IF_SAME = _script(State, "common.lua", "write_if_same.lua")

# In a Cluster, a move to another key takes two scripts: the session is taken from its old key, then
# put under the new one, changed.
TAKE_HASH = _script(TakenHash, "common.lua", "take_hash.lua")
RESTORE_SAVE = _script(Saved, "common.lua", "restore.lua", "unlisted.lua", "save.lua")
RESTORE_LOGIN = _script(Began, "common.lua", "restore.lua", "unlisted.lua", "login.lua")
KEEP = _script(State, "keep.lua")
PUT_BACK = _script(State, "common.lua", "restore.lua", "put_back.lua")

# Where values are encrypted, those have to be as they were read when the session leaves its key.
RENEW_SEALED = _resealing(Saved, "renew", "unlisted.lua", "save.lua")
LOGIN_SEALED = _resealing(Began, "login", "unlisted.lua", "login.lua")
TAKE_HASH_SEALED = _resealing(TakenHash, "take_hash", "take_hash.lua")

# Sessions of other middleware, which the drop-in takes over.
IMPORT = _script(Began, "common.lua", "import.lua", "create.lua")
READ_ORIGINAL = _script(Original, "read_original.lua")
DROP_KEY = _script(Dropped, "drop_key.lua")

PLACE_RESERVE = _script(Reserved, "places_common.lua", "place_reserve.lua")
PLACE_MOVE = _script(Moved, "places_common.lua", "place_move.lua")
PLACE_CONFIRM = _script(Confirmed, "places_common.lua", "place_confirm.lua")
PLACE_RELEASE = _script(Released, "places_common.lua", "place_release.lua")
PLACE_LIST = _script(Page, "places_common.lua", "place_list.lua")
PLACE_FIND = _script(Found, "places_common.lua", "place_find.lua")

# Sessions of identity providers.
PROVIDER_ENTER = _script(Entered, "common.lua", "provider_enter.lua")
PROVIDER_CHECK = _script(Checked, "provider_check.lua")
PROVIDER_REVOKE = _script(Members, "common.lua", "provider_revoke.lua")

DEVICE_SEEN = _script(DeviceSeen, "common.lua", "device_seen.lua")

#: All of them: to load them into a server beforehand, or to list what they do.
SCRIPTS: tuple[Script[Any], ...] = (
    PROVE,
    *(LOAD, COMMIT, SAVE, RENEW, CREATE, LOGIN, INCREMENT, APPEND, SWEEP, SWAP, TAKE_FIELD, END),
    *(BURY, ABSENCE, WRITE_IF_SAME, ANNOUNCE, WATCH, EXPIRING, EXPIRED),
    *(TAKE_HASH, RESTORE_SAVE, RESTORE_LOGIN, KEEP, PUT_BACK),
    *(RENEW_SEALED, LOGIN_SEALED, TAKE_HASH_SEALED),
    *(IMPORT, READ_ORIGINAL, DROP_KEY),
    *(PLACE_RESERVE, PLACE_MOVE, PLACE_CONFIRM, PLACE_RELEASE, PLACE_LIST, PLACE_FIND),
    *(PROVIDER_ENTER, PROVIDER_CHECK, PROVIDER_REVOKE, DEVICE_SEEN),
)

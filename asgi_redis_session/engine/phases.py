"""What is known of a session: its phase. `SessionState.enter` alone changes it."""

from enum import Enum


class Phase(Enum):
    """What is known of a session."""

    #: Nothing was read yet.
    UNLOADED = "unloaded"
    #: Redis holds nothing of it.
    NEW = "new"
    #: Redis holds it, as `record` and `fields` say.
    STORED = "stored"
    #: Redis was down. The request goes on with an empty session that refuses writes, because they
    #: would replace the user's real one.
    STAND_IN = "stand-in"


#: Members of an enum are slow to reach through their class: 5,000 instructions in a write.
UNLOADED, NEW, STORED, STAND_IN = Phase

"""How many examples a property is tried with."""

import os

#: With each change a share of them is tried: they are other ones in each run. At night, all are.
_SHARE = 5


def examples(number: int) -> int:
    """So many of *number*; all of them with SESSION_TEST_EXAMPLES=all in the environment."""
    if os.environ.get("SESSION_TEST_EXAMPLES") == "all":
        return number
    return max(min(number, 60), number // _SHARE)

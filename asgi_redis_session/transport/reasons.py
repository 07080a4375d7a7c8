"""What a server has answered, in words that may be logged."""

import re

_LENGTH = 200
#: What a server answers that has RESP2 only; redis-py 8 speaks RESP3 if it is not told otherwise.
_NO_RESP3 = re.compile(r"unknown command \W?HELLO\b|NOPROTO\b", re.IGNORECASE)
#: Redis quotes the arguments of a command that it does not know: keys, user ids and values; a
#: password, if it does not know HELLO. And it names the script that has failed, by its SHA-1 and
#: line, so that one reason would have many texts.
_LEFT_OUT = re.compile(
    r",? with args beginning with.*"
    r"| script: [0-9a-f]{40}, on @user_script:\d+\.?"
    r"|Error running script \(call to f_[0-9a-f]{40}\): (?:@user_script: ?\d+: )*",
    re.IGNORECASE,
)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error, without arguments of the command and its full stop."""
    if _NO_RESP3.match(str(error)):
        return "it has no RESP3: set protocol=2 in its URL, or in the client"
    return _LEFT_OUT.sub("", str(error).partition("\n")[0])[:_LENGTH].strip().rstrip(".")

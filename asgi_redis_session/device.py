"""A short name for the device that a user agent string stands for."""

from functools import lru_cache

try:
    from ua_parser import parse
except ImportError:  # the extra `devices` is not installed
    parse = None  # type: ignore[assignment]

__all__ = ["label_of"]


@lru_cache(maxsize=1024)
def label_of(agent: str) -> str | None:
    """
    "Firefox on Windows", for a list of devices; None if nothing is known about it.

    By ua-parser (the extra `devices`); without it, always None.
    """
    if parse is None:
        return None
    result = parse(agent)
    browser = result.user_agent.family if result.user_agent else None
    system = result.os.family if result.os else None
    if browser and system:
        return f"{browser} on {system}"
    return browser or system

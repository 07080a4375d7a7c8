"""Warnings that are given once in a process, so that a misconfiguration does not fill the log."""

from collections import defaultdict

__all__ = ["first_time"]

#: So many different things of one topic, such as paths, are said.
_MOST = 100
_said: dict[str, set[tuple[str, ...]]] = defaultdict(set)


def first_time(topic: str, *what: str) -> bool:
    """Whether this has not been said yet, and may be said now."""
    said = _said[topic]
    if what in said or len(said) >= _MOST:
        return False
    said.add(what)
    return True

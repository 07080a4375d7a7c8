"""Durations: `timedelta` or seconds at the border, integer milliseconds inside. Nothing else."""

import math
from datetime import timedelta

__all__ = ["milliseconds"]

_CENTURY = timedelta(days=36_525)


def milliseconds(name: str, duration: timedelta | float, *, least: int = 1) -> int:
    """A duration of the public API as the integer that Redis gets; refuses nonsense."""
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise TypeError(
            f"{name} must be a timedelta or a number of seconds, not {type(duration).__name__}."
        )
    if math.isnan(seconds) or not least <= seconds * 1000 <= _CENTURY.total_seconds() * 1000:
        raise ValueError(
            f"{name}={duration!r} is not a usable duration: give more than 0 and at most 100 years."
        )
    return round(seconds * 1000)

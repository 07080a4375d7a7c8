"""What a write returns."""

from typing import Generic, NamedTuple, TypeVar

from ..errors import DurabilityNotReached

R = TypeVar("R")


class Written(NamedTuple, Generic[R]):
    """
    The result of a write.

    *shortfall*: None, or the error to raise if the write was committed but has not become as
    durable as its write concern asked. It is returned, not raised, so that the caller can finish
    the steps that follow.
    """

    reply: R
    shortfall: DurabilityNotReached | None = None

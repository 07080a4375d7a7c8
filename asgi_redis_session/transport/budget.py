"""One time budget for a verb of several steps, so that it does not take the timeout for each."""

from contextvars import ContextVar, Token


class Budget:
    """
    The time that the commands of a verb may still take, in seconds.

    Only waiting for Redis is charged, by the clock of the lane, so what else happens in between (a
    blocked event loop, for instance) costs the verb nothing.
    """

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def charge(self, given: float, waited: float) -> None:
        """
        A command has taken *waited* of the *given* seconds that were left when it was sent.

        Commands that were sent together are charged once: for the slowest.
        """
        self.left = min(self.left, given - max(0.0, waited))


#: The budget of the verb that runs in this context; None: each command has the whole timeout.
current: ContextVar[Budget | None] = ContextVar("current", default=None)


class one_budget:  # noqa: N801  (used as a function; a generator takes 5,000 instructions more)
    """Let all commands in this block share a budget. A block inside another shares that one's."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._token: Token[Budget | None] | None = None

    def __enter__(self) -> None:
        if current.get() is None:
            self._token = current.set(Budget(self._seconds))

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            current.reset(self._token)

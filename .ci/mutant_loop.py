"""
A pytest plugin that runs the collected tests against one mutant after the other.

`mutants.json` names the mutants, and says how long the tests of one may take; `outcomes.json` gets
what became of each. pytest collects the tests once, and the servers that they share start once.
Then a process is forked for each mutant, which runs the tests that call the changed function, the
quickest of each module first, until one fails. A test has a time limit of its own, because a mutant
may wait for ever.
"""

import gc
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Literal, NoReturn

import pytest
from _pytest.nodes import Node
from _pytest.reports import TestReport
from _pytest.runner import runtestprotocol
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

#: How long a test may take: so many seconds, and so many times what it takes without a mutant.
PAUSE, TIMES = 5.0, 10.0
#: A module is slow if what its tests share takes so many seconds to set up. Then they run after the
#: others, and only if fewer than so many of the others call what was changed.
SLOW_START, ENOUGH = 1.0, 20
#: How often tests may be run until they pass without a mutant.
ATTEMPTS = 3

Outcome = Literal["killed", "survived", "late"]


class Known:
    """What a test does without a mutant."""

    def __init__(
        self, index: int, module: str, seconds: float, start: float, calls: Sequence[str]
    ) -> None:
        self.index = index
        self.module = module
        self.seconds = seconds
        self.start = start
        self.calls = frozenset(calls)


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of running the tests once."""
    set_mutant_under_test("")
    _start_what_is_shared(session)
    tests = list(_without_a_mutant(session))
    slow = _slow_modules(tests)
    tests.sort(key=lambda test: (test.module in slow, 0 if test.module in slow else test.seconds))
    seconds = sum(test.seconds for test in tests)
    print(f"{len(tests)} tests take {seconds:.1f} s without a mutant", flush=True)
    _pass(session, tests)
    names, longest = json.loads(Path("mutants.json").read_text())
    outcomes: dict[str, str] = {}
    gc.freeze()
    first: Known | None = None
    for number, name in enumerate(names, 1):
        function = name.rpartition("_")[0]
        chosen = _chosen([test for test in tests if function in test.calls], slow, longest)
        if first in chosen:  # what has killed the mutant before this one is likely to do it again
            chosen.remove(first)
            chosen.insert(0, first)
        began = time.monotonic()
        outcomes[name], last = _try(session, chosen, name)
        by = "" if last is None else f" by {session.items[last.index].nodeid}"
        first = last or first
        took = time.monotonic() - began
        print(f"{number}/{len(names)} {name}: {outcomes[name]}{by} ({took:.1f} s)", flush=True)
    _pass(session, tests)  # no mutant has left something behind that makes a test fail
    Path("outcomes.json").write_text(json.dumps(outcomes))
    return True


def _slow_modules(tests: Sequence[Known]) -> set[str]:
    starts: dict[str, float] = {}
    for test in tests:  # the first of a module sets up what all share
        starts.setdefault(test.module, test.start)
    return {module for module, seconds in starts.items() if seconds > SLOW_START}


def _chosen(tests: list[Known], slow: set[str], longest: float) -> list[Known]:
    """
    Of the tests that call a function, those that are worth their time.

    *longest*: many quick ones are taken for so many seconds together, some of each module.
    """
    quick = [test for test in tests if test.module not in slow]
    if len(quick) < ENOUGH:
        return tests
    quick = _in_turn(quick)
    together = accumulate(test.seconds for test in quick)
    return [test for test, seconds in zip(quick, together, strict=True) if seconds <= longest]


def _in_turn(tests: list[Known]) -> list[Known]:
    """The first test of each module, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for test in tests:
        turns.append((seen[test.module], test))
        seen[test.module] += 1
    return [test for _, test in sorted(turns, key=itemgetter(0))]


def _start_what_is_shared(session: pytest.Session) -> None:
    """Run one test here, so that the servers that all tests share belong to this process."""
    item = session.items[0]
    for report in _protocol(item, session):
        if report.failed:
            pytest.exit(f"{item.nodeid} fails: {report.longreprtext}", returncode=1)


def _protocol(item: pytest.Item, following: Node) -> list[TestReport]:
    """Run one test; what it shares with the following one, if any, is left as it is."""
    return runtestprotocol(item, log=False, nextitem=following)  # type: ignore[arg-type]


def _without_a_mutant(session: pytest.Session) -> Iterator[Known]:
    """Run all tests once, and note what each of them calls."""
    seen = Path("calls.jsonl")

    def work(note: Callable[[int], None]) -> None:
        with seen.open("w") as lines:
            followers = [*session.items[1:], session]
            for index, (item, following) in enumerate(zip(session.items, followers, strict=True)):
                state()._stats.clear()
                set_mutant_under_test("stats")
                began = time.monotonic()
                reports = _protocol(item, following)
                for report in reports:
                    if report.failed:
                        print(f"{item.nodeid} fails:\n{report.longreprtext}", flush=True)
                        os._exit(1)
                calls = [f"{name}__mutmut" for name in state()._stats]
                module, took = item.nodeid.split("::")[0], time.monotonic() - began
                found = (index, module, took, reports[0].duration, calls)
                lines.write(json.dumps(found) + "\n")

    with _forked(work) as (child, _):
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            pytest.exit("the tests fail without any mutant", returncode=1)
    for line in seen.read_text().splitlines():
        yield Known(*json.loads(line))


def _pass(session: pytest.Session, tests: Sequence[Known]) -> None:
    """Make sure that the tests pass without a mutant, in the order in which it meets them."""
    for _ in range(ATTEMPTS):
        outcome, last = _run(session, tests, "")
        if outcome == "survived":
            return
        where = "" if last is None else session.items[last.index].nodeid
        print(f"without a mutant: {outcome} by {where}", flush=True)
    pytest.exit("the tests fail without any mutant", returncode=1)


def _try(
    session: pytest.Session, tests: Sequence[Known], mutant: str
) -> tuple[Outcome, Known | None]:
    """Run the tests against this mutant; returns also the one that has killed it."""
    for _ in range(ATTEMPTS):
        outcome, last = _run(session, tests, mutant)
        # On a busy machine a test is late without a mutant, too. Then it doesn't count.
        if outcome != "late" or last is None or _run(session, [last], "")[0] == "survived":
            return outcome, last
    return "survived", None


def _run(
    session: pytest.Session, tests: Sequence[Known], mutant: str
) -> tuple[Outcome, Known | None]:
    def work(note: Callable[[int], None]) -> None:
        set_mutant_under_test(mutant)
        for number, test in enumerate(tests):
            note(number)
            rest = tests[number + 1 : number + 2]
            following = session.items[rest[0].index] if rest else session
            if any(one.failed for one in _protocol(session.items[test.index], following)):
                os._exit(1)

    last: Known | None = None
    with _forked(work, quiet=True) as (child, notes):
        left = PAUSE
        while select.select([notes], [], [], left)[0]:
            heard = os.read(notes, 4096).split()
            if not heard:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                return ("killed", last) if code else ("survived", None)
            last = tests[int(heard[-1])]
            left = PAUSE + TIMES * last.seconds
        os.kill(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return "late", last


@contextmanager
def _forked(
    work: Callable[[Callable[[int], None]], None], *, quiet: bool = False
) -> Iterator[tuple[int, int]]:
    """Do the work in a forked process; gives its pid, and where it writes what it notes."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, writer, quiet=quiet)
    os.close(writer)
    try:
        yield child, reader
    finally:
        os.close(reader)


def _work(work: Callable[[Callable[[int], None]], None], writer: int, *, quiet: bool) -> NoReturn:
    try:
        os.setpgid(0, 0)
        if quiet:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        work(partial(_note, writer))
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  (a child must not return into pytest)
        print(repr(error), file=sys.stderr)
        os._exit(1)


def _note(writer: int, number: int) -> None:
    os.write(writer, b"%d " % number)

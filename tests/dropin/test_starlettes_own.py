"""Starlette's own tests of its SessionMiddleware pass on the drop-in."""

from pathlib import Path

import pytest

from . import starlettes_own


def test_starlettes_own_tests_pass(tmp_path: Path, session_redis_url: str) -> None:
    """All of them pass, none is skipped, and those that are left out are listed."""
    counts = starlettes_own.run(tmp_path, session_redis_url)
    if counts is None:
        pytest.skip("No source distribution of this Starlette with tests of its `Session`.")
    assert counts.failed == 0, counts.report
    assert counts.run >= 10  # what Starlette 1.0.0 has
    assert all(reason.endswith(".") for reason in starlettes_own.EXCEPTED.values())

"""Processes with an /etc/hosts, or a network, of their own."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

#: Starts what follows with another /etc/hosts.
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


class Names:
    """
    A hosts file. `inside` is the beginning of a command that finds hosts by it.

    Skips the test if this machine allows no mount namespace.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hosts"
        self._file.touch()
        with_hosts = ("sh", "-c", _WITH_HOSTS, str(self._file))
        self.inside: Sequence[str] = (*unshare("--mount", *with_hosts), *with_hosts)

    def point(self, name: str, address: str) -> None:
        """From now on the name leads to this address."""
        # Written in place: the mount is of the file, not of its path.
        self._file.write_text(f"127.0.0.1 localhost\n{address} {name}\n")


@cache
def unshare(kind: str, *trial: str) -> Sequence[str]:
    """
    The beginning of a command with a namespace of its own: `--mount` or `--net`.

    *trial* is what has to work in it. Skips the test if this machine does not allow it.
    """
    for namespace in (("unshare", kind), ("unshare", "--map-root-user", kind)):
        tried = subprocess.run([*namespace, *trial, "true"], check=False, capture_output=True)
        if tried.returncode == 0:
            return namespace
    pytest.skip(f"this machine does not allow `unshare {kind}`")

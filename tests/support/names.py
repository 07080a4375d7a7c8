"""A host name whose address changes, for one process: its /etc/hosts is a file of the test's."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

#: Starts what follows with another /etc/hosts, in a mount namespace of its own.
_INSIDE = 'mount --bind "$0" /etc/hosts && exec "$@"'
_NAMESPACES = (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount"))


class Names:
    """
    A hosts file. `inside` is the beginning of a command that finds hosts by it.

    Skips the test if this machine allows no mount namespace.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hosts"
        self._file.touch()
        self.inside: Sequence[str] = (*_namespace(), "sh", "-c", _INSIDE, str(self._file))

    def point(self, name: str, address: str) -> None:
        """From now on the name leads to this address."""
        # Written in place: the mount is of the file, not of its path.
        self._file.write_text(f"127.0.0.1 localhost\n{address} {name}\n")


@cache
def _namespace() -> Sequence[str]:
    for namespace in _NAMESPACES:
        command = [*namespace, "sh", "-c", _INSIDE, "/dev/null", "true"]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return namespace
    pytest.skip("this machine allows no mount namespace (`unshare --mount`)")

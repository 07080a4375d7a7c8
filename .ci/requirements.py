"""
What an extra of pyproject.toml needs, with the extras that it names: one requirement in each line.

    python .ci/requirements.py demo

For an environment that runs the package from this checkout. pip has no command for that, and to
build the package takes it a third of the time that all packages of the demo take.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def needed(extra: str) -> Iterator[str]:
    for requirement in PROJECT["optional-dependencies"][extra]:
        if named := re.fullmatch(rf"{PROJECT['name']}\[(.+)\]", requirement):
            for other in named[1].split(","):
                yield from needed(other)
        else:
            yield requirement


if __name__ == "__main__":
    print("\n".join(dict.fromkeys([*PROJECT["dependencies"], *needed(sys.argv[1])])))

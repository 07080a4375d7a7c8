"""Each log record has a name and attributes, as docs/observability.md lists them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asgi_redis_session

from ..support.silence import load_from_nowhere

PACKAGE = Path(asgi_redis_session.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "observability.md"

Listed = dict[str, tuple[str, frozenset[str]]]


def _written() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Event, level and attributes of each call of the logger in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            assert "extra" in given, f"{path}:{node.lineno} has no name"
            call: Any = given["extra"]
            call = named[call.id] if isinstance(call, ast.Name) else call
            level = ast.unparse(node.func).removeprefix("logger.").replace("exception", "error")
            names = frozenset(keyword.arg or "" for keyword in call.keywords)
            yield ast.literal_eval(call.args[0]), level, names


def _documented() -> Iterator[tuple[str, str, frozenset[str]]]:
    table = PAGE.read_text().partition("| `event` |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        _, event, level, _, attributes, _ = line.split("|")
        yield event.strip(" `"), level.strip(), frozenset(attributes.replace("`", "").split())


@pytest.mark.anywhere
def test_each_record_is_documented() -> None:
    """Name, level and attributes of all records, and none besides."""
    assert set(_written()) == set(_documented())


async def test_a_record_has_its_attributes(
    prefix: str, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As a JSON formatter finds them."""
    await load_from_nowhere(prefix, unused_tcp_port, caplog)
    (record,) = caplog.records
    shown = vars(record)
    assert shown["event"] == "redis_silent"
    assert str(unused_tcp_port) in shown["address"]
    assert shown["reason"] in record.getMessage()

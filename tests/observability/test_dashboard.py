"""The dashboard has the form that Grafana gives its dashboards, by Grafana's own models of it."""

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_type_hints

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from pydantic import ConfigDict, TypeAdapter

from ..support.documents import ROOT

pytestmark = pytest.mark.anywhere

WRITTEN: dict[str, Any] = json.loads((ROOT / "docs/observability/dashboard.json").read_text())


@pytest.fixture(scope="module")
def dashboard() -> Dashboard:
    register_default_plugins()  # of panels and data sources
    return Dashboard.from_json(WRITTEN)


def unknown(written: Any, kept: Any, at: str = "") -> Iterator[str]:
    """What is written, and unknown to the models, or other there."""
    if isinstance(written, dict) and isinstance(kept, dict):
        for name, value in written.items():
            yield from unknown(value, kept.get(name), f"{at}.{name}")
    elif isinstance(written, list) and isinstance(kept, list) and len(written) == len(kept):
        for number, value in enumerate(written):
            yield from unknown(value, kept[number], f"{at}[{number}]")
    elif written != kept:
        yield at


def models(value: Any) -> Iterator[Any]:
    """All objects of the models, from the dashboard down."""
    if isinstance(value, Enum):
        return
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from models(part)
    elif type(value).__module__.startswith("grafana_foundation_sdk.models"):
        yield value
        yield from models(vars(value))


def test_grafana_knows_each_name(dashboard: Dashboard) -> None:
    """Nothing in the file is lost when Grafana's models read and write it."""
    kept = json.loads(JSONEncoder().encode(dashboard))
    assert list(unknown(WRITTEN, kept)) == []


def test_each_value_has_grafanas_type(dashboard: Dashboard) -> None:
    """Texts, numbers, and words of a list, such as the mode of a legend."""
    loose = ConfigDict(arbitrary_types_allowed=True)
    found = list(models(dashboard))
    kinds = {type(one).__name__ for one in found}
    assert kinds >= {"Dashboard", "Panel", "GridPos", "VizLegendOptions", "Dataquery"}
    for one in found:
        hints = get_type_hints(type(one))
        for name, value in vars(one).items():
            TypeAdapter(hints[name], config=loose).validate_python(value)


def test_no_panels_overlap() -> None:
    """The grid has 24 columns, and each place of it one panel at most."""
    taken: set[tuple[int, int]] = set()
    for panel in WRITTEN["panels"]:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        assert x + w <= 24
        place = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert not taken & place
        taken |= place
    assert len({panel["id"] for panel in WRITTEN["panels"]}) == len(WRITTEN["panels"])

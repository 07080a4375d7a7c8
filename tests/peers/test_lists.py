"""Each test of the peers is here under its name, or excepted with a reason."""

import inspect
from importlib import import_module

import pytest

from ..support.documents import ROOT
from .lists import PEERS, Peer

pytestmark = pytest.mark.anywhere


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_of_theirs_is_here_or_excepted(peer: Peer) -> None:
    """None twice, none forgotten, none invented; a reason is a sentence."""
    here = [
        name
        for module in peer.modules
        for name, _ in inspect.getmembers(import_module(f"tests.peers.{module}"))
        if name.startswith("test_")
    ]
    assert sorted(peer.names) == sorted([*here, *peer.excepted])
    reasons = [*peer.excepted.values(), *peer.unlisted.values()]
    assert all(reason.endswith(".") for reason in reasons)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_the_moving_guide_has_the_numbers(peer: Peer) -> None:
    """As many as are listed here."""
    passed, excepted = len(peer.names) - len(peer.excepted), len(peer.excepted)
    text = (ROOT / "docs/moving.md").read_text()
    assert f"({passed} passed, {excepted} excepted)" in text

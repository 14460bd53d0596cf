"""Segments: only what is a chain can be made into one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.workers.cache.chains import ROOT, nodes, parcel, tokens
from workers.cache.segment import Segment

CHAIN = nodes(tokens(1, 600), states=[300])


def test_a_chain_is_a_segment() -> None:
    """Whole nodes and a last one that is not, from the first on or from a later one."""
    assert Segment(ROOT, 0, CHAIN).owner is None
    assert Segment(CHAIN[0].name, 256, CHAIN[1:]).nodes == CHAIN[1:]


@pytest.mark.parametrize(
    ("parent", "chain", "why"),
    [
        (ROOT, (), "without nodes"),
        (ROOT, CHAIN[1:], "follow"),
        (ROOT, (CHAIN[0], CHAIN[2]), "follow"),
        (ROOT, (replace(CHAIN[0], name=bytes(32)),), "follow"),
        (CHAIN[1].name, (CHAIN[2], CHAIN[0]), "has 88 tokens"),
        (ROOT, (replace(CHAIN[0], tokens=()),), "has 0 tokens"),
        (ROOT, (replace(CHAIN[0], tokens=range(257)),), "has 257 tokens"),
        (ROOT, (replace(CHAIN[0], snapshots={0: parcel(ROOT, "state")}),), r"snapshots at \[0\]"),
        (CHAIN[1].name, (replace(CHAIN[2], snapshots={89: parcel(ROOT, "state")}),), r"snapshots at \[89\]"),
    ],
)
def test_nothing_else_is(parent: bytes, chain: tuple[object, ...], why: str) -> None:
    """Gaps, wrong names, nodes of the wrong size and snapshots outside of them are refused."""
    with pytest.raises(ValueError, match=why):
        Segment(parent, 0, chain)  # type: ignore[arg-type]  # a tuple of nodes, in a table

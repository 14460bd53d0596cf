"""Chains whose contents follow from their tokens, so that a wrong one shows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from workers.cache.chain import BLOCK_TOKENS, link, root
from workers.cache.disk import DiskTier, Found
from workers.cache.parcel import Parcel, Tensor
from workers.cache.segment import Node, Segment

FINGERPRINT = hashlib.sha256(b"an LLM").hexdigest()

OTHER = hashlib.sha256(b"another LLM").hexdigest()

ROOT = root(FINGERPRINT, "")

PATIENCE = 10.0


def tokens(seed: int, count: int) -> list[int]:
    """Tokens of a conversation that differs from all others from its first on."""
    return [seed * 10_000 + place for place in range(count)]


def parcel(name: bytes, what: str, nbytes: int = 64) -> Parcel:
    """Two arrays that only the node ``name`` has."""
    half = nbytes // 2
    data = [hashlib.shake_128(f"{what}/{part}".encode() + name).digest(half) for part in "kv"]
    keys, values = (Tensor("U8", (half,), one) for one in data)
    return Parcel({"keys": keys, "values": values})


def nodes(
    sequence: Sequence[int], states: Collection[int] = (), parent: bytes = ROOT, nbytes: int = 64
) -> tuple[Node, ...]:
    """A sequence as nodes, with snapshots where so many of its tokens are read."""
    made = []
    for begin in range(0, len(sequence), BLOCK_TOKENS):
        part = tuple(sequence[begin : begin + BLOCK_TOKENS])
        offsets = [state - begin for state in states if 0 < state - begin <= len(part)]
        snapshots = {at: parcel(link(parent, part[:at]), "state", nbytes) for at in offsets}
        name = link(parent, part)
        made.append(Node(name, part, parcel(name, "blocks", nbytes), snapshots))
        parent = name
    return tuple(made)


def segment(
    sequence: Sequence[int],
    states: Collection[int] = (),
    *,
    skip: int = 0,
    owner: str | None = None,
    nbytes: int = 64,
) -> Segment:
    """A sequence without its first ``skip`` nodes."""
    made = nodes(sequence, states, nbytes=nbytes)
    parent = made[skip - 1].name if skip else ROOT
    return Segment(parent, skip * BLOCK_TOKENS, made[skip:], owner)


def is_right(found: Iterable[Node], parent: bytes = ROOT) -> bool:
    """Whether each node, and each of its snapshots, has the contents that are its own."""
    for node in found:
        states = {
            at: parcel(link(parent, node.tokens[:at]), "state", one.nbytes)
            for at, one in node.snapshots.items()
        }
        if node.name != link(parent, node.tokens) or node.parcel is None or node.snapshots != states:
            return False
        if node.parcel != parcel(node.name, "blocks", node.parcel.nbytes):
            return False
        parent = node.name
    return True


def open_tier(
    folder: Path, fingerprint: str = FINGERPRINT, budget: int = 1 << 30, **options: Any
) -> DiskTier:
    """A tier that has looked at what is there."""
    options = {"can_be_cut": True, "reserve_bytes": 0, "retry_seconds": 0.05} | options
    tier = DiskTier(folder, fingerprint, budget, **options)
    tier.start()
    tier.flush(PATIENCE)
    return tier


def load(tier: DiskTier, found: Found) -> tuple[Node, ...] | None:
    """What was found, as soon as it is read."""
    answer: Future[tuple[Node, ...] | None] = Future()
    tier.load(found, answer.set_result)
    return answer.result(PATIENCE)


def look_up(tier: DiskTier, sequence: Sequence[int]) -> tuple[Node, ...] | None:
    """What is on disk of a sequence, read."""
    return load(tier, tier.find(ROOT, sequence))


def keep(tier: DiskTier, *segments: Segment) -> None:
    """Save and wait for the disk."""
    for one in segments:
        assert tier.save(one)
    assert tier.flush(PATIENCE)
    tier.check_integrity()


def close(tier: DiskTier) -> None:
    """Stop a tier that has nothing wrong with it."""
    assert tier.stop(PATIENCE)
    tier.check_integrity()


def block_files(folder: Path) -> list[Path]:
    """The files that are there for use."""
    return sorted(path for path in folder.rglob("*.safetensors") if path.parent.name != "damaged")


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something; TimeoutError if it does not come true."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)

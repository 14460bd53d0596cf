"""What the pool takes for many agents that begin alike."""

from __future__ import annotations

from collections.abc import Iterator

from ops.bench.boundary import Ask, Boundary
from ops.bench.figure import Bound, Figure
from ops.bench.subjects import Bench
from ops.bench.texts import Rows

TARGET = 1.05
WHOLE, BROKEN = 2_048, 2_000
"""Tokens of the prefix: of whole blocks, and so that the last block is shared in part."""

TAIL, OUT = 32, 32


def measure(bench: Bench) -> Iterator[Figure]:
    """Bytes at rest ÷ those of the prefix once and what each agent has of its own."""
    for prefix in (WHOLE, BROKEN):
        yield _figure(bench, prefix)


def _figure(bench: Bench, prefix: int) -> Figure:
    subject, rows, agents = bench.light, Rows(), bench.effort.agents
    with Boundary(subject.folder, bench.place(f"holding-{prefix}")) as engine:
        shared = rows.take(prefix)
        asks = [Ask([*shared, *rows.take(TAIL)], OUT, agent=f"agent-{n}") for n in range(agents)]
        engine.run(asks[:1])
        told = engine.run(asks[1:])
        stats = engine.stats()
    own = TAIL + OUT
    ideal = (prefix + agents * own) * stats["token_bytes"]
    bound: Bound = "at most" if prefix == WHOLE else "for comparison"
    return Figure(
        f"pool bytes of {agents} agents on one prefix of {prefix} ÷ ideal",
        stats["pool_bytes"] / ideal, "", bound, TARGET,
        {"llm": subject.name, "device": bench.device, "tail": TAIL, "tokens": OUT,
         "bytes": {"pool": stats["pool_bytes"], "ideal": ideal, "live_peak": stats["peak_live_bytes"],
                   "copies": agents * (prefix + own) * stats["token_bytes"]},
         "cached_tokens": [row.cached for row in told]},
    )  # fmt: skip

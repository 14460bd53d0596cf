"""``penstock bench engine``: what the shared pool of blocks is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ops.bench import agents, conversation, decoding, first_token, holding, restoring, sharing
from ops.bench.figure import Effort, Figure
from ops.bench.subjects import Bench
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.show import say

PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "hold": holding.measure,
    "reuse": conversation.measure,
    "first": first_token.measure,
    "decode": decoding.together,
    "unique": decoding.unique,
    "gap": decoding.gap,
    "jobs": sharing.measure,
    "agents": agents.measure,
    "restore": restoring.measure,
}
"""What can be measured alone, in the order in which all are."""


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """The figures of the parts chosen, or of all.

    Raises:
        Complaint: there is no such part, or no such LLM.
    """
    if unknown := [name for name in effort.parts if name not in PARTS]:
        known = ", ".join(PARTS)
        raise Complaint(f"There is no part {unknown[0]}: choose among {known}.", CONFIGURATION_ERROR)
    bench = Bench(effort, folder)
    for name in effort.parts or PARTS:
        say(f"Measuring engine, {name} …")
        yield from PARTS[name](bench)

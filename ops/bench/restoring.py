"""What a restart costs an agent: its prompt read back from disk, or computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ops.bench.boundary import Ask, Boundary
from ops.bench.figure import Figure
from ops.bench.statistics import median, take_turns
from ops.bench.subjects import Bench
from ops.bench.texts import Rows

TAIL = 32
LONG, ROUNDS_ON_CPU = 8_192, 1
"""A CPU computes what is longer for minutes."""

RATIO_TARGET = 1.0
ROOM = {"pool_bytes": 2**35, "disk_bytes": 2**36, "max_batch_bytes": 2**36}
"""So much that the longest prompt of the largest LLM is kept; nothing is taken before it is needed."""

Restart = Callable[[], Boundary]


def measure(bench: Bench) -> Iterator[Figure]:
    """Computing ÷ restoring for each length; the worker is killed and started again before every round."""
    subject, rows = bench.medium, Rows()
    lengths = bench.effort.restored
    saved = {length: rows.take(length) for length in lengths}
    seconds: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    cached: defaultdict[int, list[int]] = defaultdict(list)
    with _restarts(bench) as restart:
        engine = restart()
        for length, prompt in saved.items():
            engine.run([Ask([*prompt, *rows.take(TAIL)], agent=_agent(length))])
            engine.save(_agent(length))
        for number in range(bench.effort.rounds):
            engine = restart()
            engine.run([Ask(rows.take(TAIL))])  # kernels are compiled at first use
            for length, prompt in saved.items():
                if length > LONG and number >= bench.rounds(ROUNDS_ON_CPU):
                    continue
                one = Restored(engine, prompt, rows)
                found = take_turns(1, one.sides(backwards=number % 2 == 1))
                for side, values in found.items():
                    seconds[length, side] += values
                cached[length].append(one.cached)
    for length in lengths:
        computing, restoring = seconds[length, "computing"], seconds[length, "restoring"]
        yield Figure(
            f"first token after a restart, computing ÷ restoring, {length} tokens",
            median(computing) / median(restoring), "", "at least", RATIO_TARGET,
            {"llm": subject.name, "device": bench.device, "tail": TAIL, "cached_tokens": cached[length],
             "seconds": {"computing": computing, "restoring": restoring}},
        )  # fmt: skip


class Restored:
    """One prompt that lies on disk, and another as long that nobody has seen."""

    def __init__(self, engine: Boundary, prompt: list[int], rows: Rows) -> None:
        self._engine, self._prompt, self._rows = engine, prompt, rows
        self.cached = 0

    def sides(self, *, backwards: bool) -> dict[str, Callable[[], float]]:
        """What is measured, in its order or in the opposite one."""
        sides = {"computing": self._computing, "restoring": self._restoring}
        return dict(reversed(sides.items())) if backwards else sides

    def _computing(self) -> float:
        (told,) = self._engine.run([Ask(self._rows.take(len(self._prompt) + TAIL))])
        return told.first

    def _restoring(self) -> float:
        ask = Ask([*self._prompt, *self._rows.take(TAIL)], agent=_agent(len(self._prompt)))
        (told,) = self._engine.run([ask])
        self.cached = told.cached
        return told.first


def _agent(length: int) -> str:
    return f"agent-{length}"


@contextmanager
def _restarts(bench: Bench) -> Iterator[Restart]:
    """Gives what starts an engine on one folder of blocks, after the one before was killed."""
    running: list[Boundary] = []

    def restart() -> Boundary:
        for engine in running:
            engine.kill()
        running[:] = [Boundary(bench.medium.folder, bench.place("restoring"), ROOM)]
        return running[0].__enter__()

    try:
        yield restart
    finally:
        for engine in running:
            engine.kill()

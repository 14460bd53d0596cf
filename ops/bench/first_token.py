"""How soon the first token comes when all but the tail of a prompt is cached, and when nothing is."""

from __future__ import annotations

from collections.abc import Iterator

from ops.bench.boundary import Ask, Boundary, Told
from ops.bench.figure import Figure
from ops.bench.partner import Partner, bare
from ops.bench.statistics import median, take_turns
from ops.bench.subjects import Bench
from ops.bench.texts import Rows

PREFIX, TAIL = 2_048, 32
WARM_TARGET = 1.25
COLD_TARGET = 30.0
"""On an accelerator: there a whole prompt costs much more than its tail."""

OUT = 2
"""Tokens generated: one more than is waited for, as there always is one."""

WARM_UP = 2
"""Rounds that are not counted."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Warm ÷ bare for one prompt and for two at once, and cold ÷ warm."""
    subject, rows = bench.heavy, Rows()
    details = {"llm": subject.name, "device": bench.device, "prefix": PREFIX, "tail": TAIL}
    with bare(subject.folder) as yardstick, Boundary(subject.folder, bench.place("first")) as engine:
        for at_once in (1, 2):
            run = Warm(engine, yardstick, rows, at_once)
            found = run.measure(bench.effort.rounds)
            seconds = {side: median(values) for side, values in found.items()}
            more = {**details, "n": at_once, "seconds": found, "cached_tokens": run.cached}
            name = f"warm first token, {at_once} at once"
            yield Figure(
                f"{name} ÷ mlx-lm over a ready cache",
                seconds["engine"] / seconds["bare"], "", "at most", WARM_TARGET, more,
            )  # fmt: skip
            yield Figure(
                f"{name} ÷ computing tails alone", seconds["engine"] / seconds["alone"], "", details=more
            )
            if at_once == 1:
                warm = seconds["engine"]
        cold = [_cold(engine, rows) for _ in range(bench.effort.rounds)]
    yield Figure(
        "first token, cold ÷ warm", median(cold) / warm, "",
        "for comparison" if bench.device == "CPU" else "at least", COLD_TARGET,
        {**details, "seconds": {"cold": cold, "warm": warm}},
    )  # fmt: skip


class Warm:
    """Prompts that share a cached prefix, ``at_once`` of them, each time with tails nobody has seen."""

    def __init__(self, engine: Boundary, yardstick: Partner, rows: Rows, at_once: int) -> None:
        self._engine, self._yardstick = engine, yardstick
        self._rows, self._at_once = rows, at_once
        self._prefix = rows.take(PREFIX)
        self.cached: list[int] = []

    def measure(self, rounds: int) -> dict[str, tuple[float, ...]]:
        """Seconds until all have their first token, and those of the yardsticks.

        ``bare`` is mlx-lm's way, which begins the second token before it reads the first; ``alone``
        is without that.
        """
        self._engine.run([Ask([*self._prefix, *self._rows.take(TAIL)])])
        self._yardstick.ask({"ready": self._prefix, "rows": self._at_once})
        sides = {
            "engine": self._ours,
            "bare": lambda: self._theirs(ahead=True),
            "alone": lambda: self._theirs(ahead=False),
        }
        take_turns(WARM_UP, sides)
        self.cached.clear()
        return take_turns(rounds, sides)

    def _ours(self) -> float:
        told = self._engine.run([Ask([*self._prefix, *tail], OUT) for tail in self._tails()])
        self.cached += [row.cached for row in told]
        return max(row.first for row in told)

    def _theirs(self, *, ahead: bool) -> float:
        return float(self._yardstick.ask({"tails": self._tails(), "ahead": ahead})["seconds"])

    def _tails(self) -> list[list[int]]:
        return [self._rows.take(TAIL) for _ in range(self._at_once)]


def _cold(engine: Boundary, rows: Rows) -> float:
    told: list[Told] = engine.run([Ask(rows.take(PREFIX + TAIL), OUT)])
    return told[0].first

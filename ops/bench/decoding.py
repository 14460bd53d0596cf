"""How fast the engine decodes beside mlx-lm alone, what the pool costs those who share nothing, who waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from ops.bench.boundary import Ask, Boundary, Told
from ops.bench.figure import Figure
from ops.bench.partner import Partner, bare
from ops.bench.statistics import alternate, median
from ops.bench.subjects import Bench
from ops.bench.texts import Rows
from ops.complaint import Complaint

DECODE_TARGET, UNIQUE_TARGET, GAP_TARGET = 0.95, 0.97, 10.0
AT_ONCE = (8, 16)
SHORT = 32
"""Tokens of a prompt that hardly counts."""

UNIQUE_ROWS, UNIQUE_PROMPT, UNIQUE_OUT = 8, 512, 32
ALONE = 64
"""Tokens that a row decodes by itself before another one's long prompt comes."""

ENDLESS = 4_000


def together(bench: Bench) -> Iterator[Figure]:
    """Tokens/s of rows that decode together ÷ those of mlx-lm's ``BatchGenerator`` for as many."""
    subject, rows, tokens = bench.heavy, Rows(), bench.effort.decoded
    with bare(subject.folder) as yardstick, Boundary(subject.folder, bench.place("together")) as engine:
        for number in AT_ONCE:
            prompts = (number, SHORT)
            through_engine(engine, _prompts(rows, *prompts), 8)
            through_bare(yardstick, _prompts(rows, *prompts), 8)
            pair = alternate(
                bench.effort.rounds,
                partial(_fresh, through_engine, engine, rows, number, tokens),
                partial(_fresh, through_bare, yardstick, rows, number, tokens),
            )
            yield Figure(
                f"aggregate decode, {number} at once ÷ bare", pair.ratio, "", "at least", DECODE_TARGET,
                {"llm": subject.name, "device": bench.device, "n": number, "prompt": SHORT, "tokens": tokens,
                 "tokens_per_second": {"engine": pair.ours, "bare": pair.yardstick}},
            )  # fmt: skip


def _fresh(
    through: Callable[[Any, Any, int], float], side: Any, rows: Rows, number: int, tokens: int
) -> float:
    """Tokens/s of one side with prompts that it has never seen."""
    return through(side, _prompts(rows, number, SHORT), tokens)


def unique(bench: Bench) -> Iterator[Figure]:
    """Output tokens/s of prompts that share nothing, with the pool ÷ without it."""
    subject, rows = bench.heavy, Rows()
    prompts = (UNIQUE_ROWS, UNIQUE_PROMPT)
    with (
        Boundary(subject.folder, bench.place("pool-on")) as on,
        Boundary(subject.folder, bench.place("pool-off"), {"pool_bytes": 0}) as off,
    ):
        for engine in (on, off):
            through_engine(engine, _prompts(rows, *prompts), 2)
        pair = alternate(
            bench.effort.rounds,
            lambda: through_engine(on, _prompts(rows, *prompts), UNIQUE_OUT),
            lambda: through_engine(off, _prompts(rows, *prompts), UNIQUE_OUT),
        )
    yield Figure(
        "all-unique prompts, pool on ÷ off", pair.ratio, "", "at least", UNIQUE_TARGET,
        {"llm": subject.name, "device": bench.device, "n": UNIQUE_ROWS, "prompt": UNIQUE_PROMPT,
         "tokens": UNIQUE_OUT, "tokens_per_second": {"on": pair.ours, "off": pair.yardstick}},
    )  # fmt: skip


def gap(bench: Bench) -> Iterator[Figure]:
    """The longest pause between two tokens of a row while another one's long prompt is computed."""
    subject, rows, prompt = bench.medium, Rows(), bench.effort.intruder
    with Boundary(subject.folder, bench.place("gap")) as engine:
        engine.run([Ask(rows.take(SHORT), 8)])
        found = [Pauses(*_intruded(engine, rows, prompt)) for _ in range(bench.effort.rounds)]
    yield Figure(
        f"longest gap between tokens during another's {prompt} ÷ median gap",
        median([pauses.ratio for pauses in found]), "", "at most", GAP_TARGET,
        {"llm": subject.name, "device": bench.device, "alone": ALONE, "rounds": [vars(one) for one in found]},
    )  # fmt: skip


def through_engine(engine: Boundary, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    """Tokens/s from the submission of all prompts to the last end."""
    told = engine.run([Ask(prompt, tokens) for prompt in prompts])
    _check(sum(len(row.tokens) for row in told), len(prompts) * tokens)
    return len(prompts) * tokens / max(row.ended for row in told)


def through_bare(yardstick: Partner, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    """The same by mlx-lm alone."""
    answer = yardstick.ask({"prompts": prompts, "max_tokens": tokens})
    _check(answer["tokens"], len(prompts) * tokens)
    return float(answer["tokens"] / answer["seconds"])


class Pauses:
    """Seconds between the tokens of the row that decodes, alone and beside the long prompt."""

    def __init__(self, decoder: Told, intruder: Told) -> None:
        gaps = [(after, after - before) for before, after in pairwise(decoder.tokens)]
        came, read = intruder.submitted, intruder.tokens[0]
        self.median_alone = median([wait for at, wait in gaps if at < came])
        beside = [wait for at, wait in gaps if came <= at and at - wait <= read]
        self.longest_beside = max(beside)
        self.tokens_beside, self.seconds_beside = len(beside), read - came

    @property
    def ratio(self) -> float:
        """The longest of them ÷ the median of those before the long prompt came."""
        return self.longest_beside / self.median_alone


def _intruded(engine: Boundary, rows: Rows, prompt: int) -> tuple[Told, Told]:
    decoder = Ask(rows.take(SHORT), ENDLESS)
    told = engine.run([decoder, Ask(rows.take(prompt), after=ALONE)], until=1)
    return told[0], told[1]


def _prompts(rows: Rows, number: int, tokens: int) -> list[list[int]]:
    return [rows.take(tokens) for _ in range(number)]


def _check(made: int, wanted: int) -> None:
    if made != wanted:
        raise Complaint(f"{made} tokens were generated where {wanted} were wanted: the runs do not compare.")

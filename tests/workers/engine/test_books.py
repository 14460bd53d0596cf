"""Whatever is done to an engine in whatever order, its books stay right and every job ends once."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from models.states import Priority
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Admission, Engine, Failed, Finished, Limits, Output, Withdrawn

from .batches import END, job, result_of

SEEDS = st.integers(0, 3)


@cache
def alone(name: str, max_tokens: int, seed: int) -> Finished:
    """The result of a job that has the engine to itself."""
    return result_of(job(name, max_tokens=max_tokens, temperature=1, seed=seed))


class EngineLife(RuleBasedStateMachine):
    """Submits in all classes, steps, breaks, starves of memory, cancels and interrupts at random."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: dict[str, tuple[int, int]] = {}
        self.places: dict[str, tuple[int, int]] = {}
        self.ends: Counter[str] = Counter()
        self.cancelled: set[str] = set()
        self.was_short = False

    @initialize(max_rows=st.integers(1, 5), blocks=st.integers(2, 12))
    def make(self, max_rows: int, blocks: int) -> None:
        """Start with an empty engine of some size."""
        self.backend = FakeBackend(FakeOptions())
        self.engine = Engine(self.backend, Limits(max_rows, blocks * 256 * 64))

    @rule(
        count=st.integers(1, 4),
        max_tokens=st.sampled_from([1, 2, 9, 30, 300]),
        seed=SEEDS,
        priority=st.sampled_from(Priority),
        rank=st.integers(0, 9),
    )
    def submit(self, count: int, max_tokens: int, seed: int, priority: Priority, rank: int) -> None:
        """Hand over a few jobs of a class at once."""
        names = [f"{len(self.submitted) + n}" for n in range(count)]
        self.submitted.update(dict.fromkeys(names, (max_tokens, seed)))
        self.places.update(dict.fromkeys(names, (priority, priority * 5 + rank)))
        self.engine.submit(self._job(name) for name in names)

    @rule(times=st.integers(1, 12))
    def step(self, times: int) -> None:
        """Let it work."""
        for _ in range(times):
            self._hear(self.engine.step())

    @rule()
    def break_next_step(self) -> None:
        """Let the next step of the backend break."""
        self.backend.faults = FakeOptions(fail_steps=frozenset([self.backend.steps + 1]))

    @rule(rows=st.sampled_from([None, 0, 1, 2, 3]))
    def change_memory(self, rows: int | None) -> None:
        """Let the device have memory for so many rows, or for all."""
        self.backend.faults = FakeOptions(memory_rows=rows)
        self.was_short |= rows == 0

    @rule(which=st.integers(0, 30))
    def cancel(self, which: int) -> None:
        """Cancel a job, which may have ended long ago."""
        if str(which) in self.submitted and not self.ends[str(which)]:
            self.cancelled.add(str(which))
        self.engine.cancel(f"{which}", 1)

    @rule()
    def interrupt(self) -> None:
        """Take everything out, and admit it again with its tokens."""
        gone = self.engine.withdraw_all()
        self.cancelled -= {end.job_id for end in gone}
        self.engine.submit(self._job(end.job_id, end) for end in gone)

    @invariant()
    def the_books_are_right(self) -> None:
        """At every moment."""
        if hasattr(self, "engine"):
            self.engine.check_integrity()
            held = len(self.submitted) - sum(self.ends.values())
            assert self.engine.held == held or self.engine.has_work

    def teardown(self) -> None:
        """In the end every job has ended exactly once, and nothing is left."""
        if not hasattr(self, "engine"):
            return
        for _ in range(20_000):
            if not self.engine.has_work:
                break
            self._hear(self.engine.step())
        self.engine.check_integrity()
        assert self.engine.held == 0
        assert self.backend.live_bytes() == 0
        assert self.ends == Counter(list(self.submitted))

    def _job(self, name: str, before: Withdrawn | None = None) -> Admission:
        """A job's next attempt."""
        (max_tokens, seed), (priority, rank) = self.submitted[name], self.places[name]
        return job(
            name, prior=before.token_ids if before else (), priority=priority, rank=rank,
            max_tokens=max_tokens, temperature=1, seed=seed,
        )  # fmt: skip

    def _hear(self, told: list[Output]) -> None:
        held = {name for name in self.submitted if not self.ends[name]}
        for output in told:
            if isinstance(output, Withdrawn):
                self._follow(output, held)
            elif isinstance(output, END):
                self.ends[output.job_id] += 1
                self._judge(output)

    def _follow(self, gone: Withdrawn, held: set[str]) -> None:
        """Who was parked made room for one of a better class and rank, and comes back with its tokens."""
        assert gone.parked
        priority, rank = self.places[gone.job_id]
        better = [self.places[name] for name in held]
        assert any(other < priority and place < rank for other, place in better)
        self.engine.submit([self._job(gone.job_id, gone)])

    def _judge(self, end: Finished | Failed) -> None:
        """A job that came to its own end has the result it would have had alone."""
        max_tokens, seed = self.submitted[end.job_id]
        if isinstance(end, Finished) and end.finish_reason != "cancelled":
            assert end == alone(end.job_id, max_tokens, seed)
        elif isinstance(end, Finished):
            assert end.job_id in self.cancelled
        else:
            assert end.type in {"engine_error", "batch_bytes", "out_of_memory"}
            assert self.was_short or end.type != "out_of_memory"


TestEngineLife = pytest.mark.slow(EngineLife.TestCase)
TestEngineLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

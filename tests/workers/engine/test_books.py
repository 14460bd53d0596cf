"""Whatever is done to an engine in whatever order, its books stay right and every job ends once."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Engine, Failed, Finished, Limits, Output, Withdrawn

from .batches import END, job, result_of

SEEDS = st.integers(0, 3)


@cache
def alone(name: str, max_tokens: int, seed: int) -> Finished:
    """The result of a job that has the engine to itself."""
    return result_of(job(name, max_tokens=max_tokens, temperature=1, seed=seed))


class EngineLife(RuleBasedStateMachine):
    """Submits, steps, breaks, cancels and interrupts at random."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: dict[str, tuple[int, int]] = {}
        self.ends: Counter[str] = Counter()
        self.cancelled: set[str] = set()

    @initialize(max_rows=st.integers(1, 5), blocks=st.integers(2, 12))
    def make(self, max_rows: int, blocks: int) -> None:
        """Start with an empty engine of some size."""
        self.backend = FakeBackend(FakeOptions())
        self.engine = Engine(self.backend, Limits(max_rows, blocks * 256 * 64))

    @rule(count=st.integers(1, 4), max_tokens=st.sampled_from([1, 2, 9, 30, 300]), seed=SEEDS)
    def submit(self, count: int, max_tokens: int, seed: int) -> None:
        """Hand over a few jobs at once."""
        names = [f"{len(self.submitted) + n}" for n in range(count)]
        self.submitted.update(dict.fromkeys(names, (max_tokens, seed)))
        self.engine.submit(job(name, max_tokens=max_tokens, temperature=1, seed=seed) for name in names)

    @rule(times=st.integers(1, 12))
    def step(self, times: int) -> None:
        """Let it work."""
        for _ in range(times):
            self._hear(self.engine.step())

    @rule()
    def break_next_step(self) -> None:
        """Let the next step of the backend break."""
        self.backend.faults = FakeOptions(fail_steps=frozenset([self.backend.steps + 1]))

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
        for end in gone:
            max_tokens, seed = self.submitted[end.job_id]
            again = job(end.job_id, prior=end.token_ids, max_tokens=max_tokens, temperature=1, seed=seed)
            self.engine.submit([again])

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

    def _hear(self, told: list[Output]) -> None:
        for output in told:
            if isinstance(output, END):
                self.ends[output.job_id] += 1
                self._judge(output)

    def _judge(self, end: Finished | Failed | Withdrawn) -> None:
        """A job that came to its own end has the result it would have had alone."""
        max_tokens, seed = self.submitted[end.job_id]
        if isinstance(end, Finished) and end.finish_reason != "cancelled":
            assert end == alone(end.job_id, max_tokens, seed)
        elif isinstance(end, Finished):
            assert end.job_id in self.cancelled
        else:
            assert isinstance(end, Failed)
            assert end.type in {"engine_error", "batch_bytes"}


TestEngineLife = pytest.mark.slow(EngineLife.TestCase)
TestEngineLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

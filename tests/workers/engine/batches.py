"""Small jobs for the engine, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from models.requests import Message, Sampling, TextPart
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Admission, Delta, Engine, Failed, Finished, Limits, Output, Started, Withdrawn

ROOMY = Limits(max_rows=64, max_batch_bytes=1 << 40)
END = (Finished, Failed, Withdrawn)


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one user message."""
    return (Message(role="user", content=(TextPart(text=text),)),)


def fake_engine(limits: Limits = ROOMY, **options: Any) -> tuple[Engine, FakeBackend]:
    """An engine over a twin with these options."""
    backend = FakeBackend(FakeOptions.model_validate(options))
    return Engine(backend, limits), backend


def job(
    name: str,
    text: str = "",
    *,
    prior: Sequence[int] = (),
    deadline: float | None = None,
    expires: float | None = None,
    priority: int = 1,
    rank: int = 0,
    **sampling: Any,
) -> Admission:
    """An attempt at a job whose prompt is ``text``, or its name."""
    tokens = FakeBackend().encode(user(text or name))
    asked = Sampling.model_validate(sampling)
    return Admission(name, 1, tokens, asked, prior, deadline, priority, rank, expires)


def run(engine: Engine, *admissions: Admission, steps: int = 5_000) -> list[Output]:
    """Submit, step until all is done, checking the books at each step; returns everything that was told."""
    engine.submit(admissions)
    told: list[Output] = []
    while engine.has_work:
        told += engine.step()
        engine.check_integrity()
        steps -= 1
        assert steps, "the engine does not come to an end"
    return told


def step(engine: Engine, times: int = 1) -> list[Output]:
    """Step so many times; returns what was told."""
    return [output for _ in range(times) for output in engine.step()]


def finished(told: Iterable[Output]) -> dict[str, Finished]:
    """The good ends, by job."""
    return {output.job_id: output for output in told if isinstance(output, Finished)}


def failed(told: Iterable[Output]) -> dict[str, Failed]:
    """The failures, by job."""
    return {output.job_id: output for output in told if isinstance(output, Failed)}


def parked(told: Iterable[Output]) -> dict[str, Withdrawn]:
    """Those that made room for others, by job."""
    return {output.job_id: output for output in told if isinstance(output, Withdrawn) and output.parked}


def shown(told: Iterable[Output], name: str) -> str:
    """All text of a job's deltas."""
    return "".join(output.text for output in told if isinstance(output, Delta) and output.job_id == name)


def started(told: Iterable[Output]) -> list[str]:
    """The jobs that started, in that order."""
    return [output.job_id for output in told if isinstance(output, Started)]


def result_of(admission: Admission, **options: Any) -> Finished:
    """What becomes of a job that has the engine to itself."""
    engine, _ = fake_engine(**options)
    return finished(run(engine, admission))[admission.job_id]

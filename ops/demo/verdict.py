"""What came of the demo: figures, and reasons to call it failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ops.demo.play import Done, Played
from ops.demo.work import Work
from ops.figures import Totals
from ops.lines import UNKNOWN
from ops.pico.evaluate import score, tally

LEAST_ACCURACY = 0.90
LEAST_BATCH = 4.0

Share = tuple[int, int]
"""Right fields, and all fields."""


@dataclass(frozen=True)
class Verdict:
    """The demo in figures; ``reasons`` is empty when all went as it should."""

    jobs: int
    seconds: float
    completion_tokens: int
    prompt_tokens: int
    mean_batch: float
    cost: Decimal
    currency: str
    families: dict[str, Share]
    known: Share
    unknown: Share
    reasons: tuple[str, ...]

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over the time from the first submission to the last end."""
        return self.completion_tokens / self.seconds


def judge(work: Work, played: Played, totals: Totals, *, is_pico: bool) -> Verdict:
    """Add everything up and compare it with what must hold.

    The accuracy is asked of ``pico`` only: another LLM has not been trained
    for these lines, and its own is reported as it is.
    """
    jobs = [job for _, job in played.done]
    tallied = tally((pair[0].line, answer(pair)) for pair in played.done)
    known = tallied.pop("known", (0, 0))
    unknown = _sum(part for family, part in tallied.items() if family in UNKNOWN)
    mean_batch = totals.decoded_tokens / totals.decode_steps if totals.decode_steps else 0.0
    reasons = list(_reasons(work, played, mean_batch))
    if is_pico and share(known) < LEAST_ACCURACY:
        reasons.append(f"accuracy is {share(known):.1%}, less than {LEAST_ACCURACY:.0%}")
    return Verdict(
        jobs=len(jobs),
        seconds=played.seconds,
        completion_tokens=sum(job["usage"]["completion_tokens"] for job in jobs),
        prompt_tokens=sum(job["usage"]["prompt_tokens"] for job in jobs),
        mean_batch=mean_batch,
        cost=sum((Decimal(job["cost"]["amount"]) for job in jobs), Decimal(0)),
        currency=jobs[0]["cost"]["currency"] if jobs else "",
        families=tallied,
        known=known,
        unknown=unknown,
        reasons=tuple(reasons),
    )


def _reasons(work: Work, played: Played, mean_batch: float) -> Iterable[str]:
    failed = [(entry, job) for entry, job in played.done if job["state"] != "succeeded"]
    for entry, job in failed[:5]:
        error = job["error"]
        yield f"{entry.name} {job['state']}" + (f": {error['type']}: {error['message']}" if error else "")
    if len(failed) > 5:
        yield f"and {len(failed) - 5} other jobs did not succeed"
    if len(played.done) < work.total:
        yield f"{work.total - len(played.done)} jobs were never submitted"
    if mean_batch < LEAST_BATCH:
        yield f"the mean batch is {mean_batch:.2f}, less than {LEAST_BATCH:g}"


def answer(done: Done) -> str:
    """The text that a job gave, or none."""
    result = done[1]["result"]
    return result["text"] if result is not None else ""


def right(done: Done) -> Share:
    """Right fields of one job."""
    return score(done[0].line.expected, answer(done))


def share(part: Share) -> float:
    """Right fields among all; 0 where there are none."""
    return part[0] / part[1] if part[1] else 0.0


def _sum(parts: Iterable[Share]) -> Share:
    listed = list(parts)
    return sum(part[0] for part in listed), sum(part[1] for part in listed)

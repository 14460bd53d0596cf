"""What the engine says of a row, turned into what is written of a job."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from config.prices import Prices
from config.settings import Queue
from models.claims import Claim
from models.endings import Ending, Usage
from models.states import State
from workers.engine import Failed, Finished, Withdrawn

AS_SET = 1_000
"""Failures that only a job's own ``max_attempts`` bounds."""


@dataclass(slots=True)
class Running:
    """A job of this worker between claim and ending."""

    claim: Claim
    since: float = field(default_factory=time.monotonic)
    first_step_at: datetime | None = None
    pending_text: str = ""
    pending_tokens: int = 0


@dataclass(slots=True)
class Over:
    """What the engine said of rows that are over; with a failure, how many a job may have for that reason."""

    finished: list[Ending] = field(default_factory=list)
    failed: list[tuple[Ending, int]] = field(default_factory=list)
    kept: list[Withdrawn] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.finished) + len(self.failed) + len(self.kept)

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The attempts, as job and fence."""
        said: list[Ending | Withdrawn] = [*self.finished, *(ending for ending, _ in self.failed), *self.kept]
        return [(one.job_id, one.fence) for one in said]

    def apart(self) -> list[Over]:
        """Each alone."""
        return [
            *(Over(finished=[one]) for one in self.finished),
            *(Over(failed=[one]) for one in self.failed),
            *(Over(kept=[one]) for one in self.kept),
        ]


class Ledger:
    """Prices and words for endings."""

    def __init__(self, prices: Prices, queue: Queue, currency: str) -> None:
        self._prices = prices
        self._queue = queue
        self._currency = currency

    def finished(self, running: Running, output: Finished) -> Ending:
        """The ending of a row that stopped, whoever stopped it; all of these are paid for."""
        timed_out = output.finish_reason == "timeout"
        states = {"cancelled": State.CANCELLED, "timeout": State.FAILED, "expired": State.EXPIRED}
        seconds = running.claim.timeout_seconds
        return Ending(
            output.job_id,
            output.fence,
            states.get(output.finish_reason, State.SUCCEEDED),
            self._usage(running.claim.llm, output),
            self._currency,
            billable=True,
            text=output.text,
            finish_reason=output.finish_reason,
            error_type="timeout" if timed_out else None,
            error_message=f"the attempt took longer than {seconds:g} s" if timed_out else None,
            first_step_at=running.first_step_at,
        )

    def _usage(self, llm: str, output: Finished) -> Usage:
        counts = (output.prompt_tokens, output.cached_tokens, output.completion_tokens)
        costs = self._prices.cost(llm, *counts)
        return Usage(*counts, costs.prompt, costs.cached, costs.completion)

    def failed(self, claim: Claim, fence: int, kind: str, message: str) -> Ending:
        """The ending of an attempt that went wrong: recorded, at zero."""
        return Ending(
            claim.job_id, fence, State.FAILED, Usage(), self._currency, billable=False,
            error_type=kind, error_message=message,
        )  # fmt: skip

    def failure(self, running: Running, output: Failed) -> tuple[Ending, int]:
        """The same, for what the engine reports, and how many failures a job may have for that reason."""
        ending = self.failed(running.claim, output.fence, output.type, output.message)
        if not output.retryable:
            return ending, 0
        return ending, AS_SET if output.at_most is None else output.at_most

    def pause(self, failures: int) -> timedelta:
        """How long to wait after the ``failures``-th failure: doubling, between half and all of it."""
        longest = min(self._queue.backoff_max_seconds, self._queue.backoff_seconds * 2 ** (failures - 1))
        # The jitter spreads retries; nothing secret depends on it.
        return timedelta(seconds=longest * random.uniform(0.5, 1.0))  # noqa: S311  (jitter)

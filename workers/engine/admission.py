"""What is handed to the engine: one attempt at one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.requests import Sampling
from models.states import Priority


@dataclass(frozen=True, slots=True)
class Admission:
    """One attempt at one job, ready to decode.

    ``tokens`` is the encoded prompt. ``prior`` are tokens that an earlier
    attempt generated before it was parked or handed back: they are part of
    the result, but are not shown again. ``deadline`` and ``expires`` are
    instants of the engine's monotonic clock, in seconds: after the first the
    attempt times out, after the second its job has expired. ``priority`` is
    the class, a value of :class:`models.states.Priority`, and ``rank`` the
    place in the queue within all classes; of both the lower goes first.

    ``owner`` names the agent whose conversation this is, among those of all tenants, and
    ``salt`` whose caches it may use: those under the same salt. ``boundaries`` are
    positions in ``tokens`` where a next turn may part from this one, for an LLM
    that needs them. ``only_reads`` has nothing told but an end: it is there to
    have its prompt cached, and the token that it generates is not kept.
    """

    job_id: str
    fence: int
    tokens: Sequence[int]
    sampling: Sampling
    prior: Sequence[int] = field(default=())
    deadline: float | None = None
    priority: int = Priority.STANDARD
    rank: int = 0
    expires: float | None = None
    owner: str | None = None
    salt: str = ""
    boundaries: Sequence[int] = ()
    only_reads: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """What names the attempt: the job and its fence."""
        return self.job_id, self.fence

    @property
    def length(self) -> int:
        """Tokens the row holds at most: the prompt and the whole of ``max_tokens``."""
        return len(self.tokens) + self.sampling.max_tokens

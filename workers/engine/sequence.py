"""One row's life: its tokens, its text, and why it must end."""

from __future__ import annotations

from workers.cache.prefix import NOTHING, Prefix
from workers.engine.admission import Admission
from workers.engine.backend import Detokenizer, Row
from workers.engine.outputs import Delta, Finished, FinishReason, StopReason, Withdrawn
from workers.engine.stops import StopMatcher

# Text that a database refuses; the Unicode replacement character stands for it.
NUL, REPLACEMENT = "\0", "\ufffd"


class Sequence:
    """An admission on its way through the engine.

    Tokens of an earlier attempt are replayed through the same detokenizer and
    stop matcher when the sequence is made, so that text goes on exactly where
    it stopped; only what comes after them is told as deltas. ``strikes`` counts
    broken steps it was in, ``cleared`` says that it produced a token since.

    ``prefix`` is what of its tokens is cached, ``milestones`` are positions
    with the names of what lies before them, where others may have the same;
    ``read`` counts the tokens in its row's cache, ``cached`` those of the prompt that were never
    computed for it: None before it is seated. Until the instant
    ``restoring_until`` it waits for what is read from disk.
    """

    __slots__ = (
        "_detokenizer",
        "_parts",
        "_stops",
        "_untold",
        "admission",
        "cached",
        "cleared",
        "generated",
        "milestones",
        "passed_over",
        "prefix",
        "read",
        "restoring_until",
        "seen",
        "started",
        "stop_reason",
        "strikes",
        "uid",
    )

    def __init__(self, admission: Admission, detokenizer: Detokenizer) -> None:
        self.admission = admission
        self.generated: list[int] = []
        self.uid: int | None = None
        self.started = False
        self.stop_reason: StopReason | None = None
        self.strikes = 0
        self.cleared = False
        self.passed_over = 0
        self.prefix: Prefix = NOTHING
        self.seen = -1
        self.milestones: tuple[tuple[int, bytes], ...] = ()
        self.restoring_until = 0.0
        self.read = 0
        self.cached: int | None = None
        self._detokenizer = detokenizer
        self._stops = StopMatcher(admission.sampling.stop)
        self._parts: list[str] = []
        self._untold = 0
        for token in admission.prior:
            self._take(token)
        self._untold = 0

    @property
    def length(self) -> int:
        """Tokens the row holds at most, now or later."""
        return self.admission.length

    @property
    def may_be_parked(self) -> bool:
        """Whether the row may be sent away: one under suspicion may not, its strikes would be forgotten."""
        return self.strikes == 0

    def outranks(self, other: Sequence) -> bool:
        """Whether this row is of a better class and stands before ``other`` in the queue as well."""
        mine, its = self.admission, other.admission
        return mine.priority < its.priority and mine.rank < its.rank

    @property
    def tokens(self) -> list[int]:
        """The prompt and everything generated."""
        return [*self.admission.tokens, *self.generated]

    @property
    def over(self) -> FinishReason | None:
        """Why the text is complete by its own measure, or None."""
        if self._stops.matched:
            return "stop"
        return "length" if len(self.generated) >= self.admission.sampling.max_tokens else None

    def row(self) -> Row:
        """What the backend needs to go on with this sequence from here."""
        done = len(self.generated)
        sampling = self.admission.sampling
        behind = self.prefix.length
        return Row(
            self.tokens,
            position=done,
            max_new=sampling.max_tokens - done,
            sampling=sampling,
            prefix=self.prefix,
            stops=[stop for stop in self.admission.boundaries if stop > behind],
        )

    @property
    def size(self) -> int:
        """Tokens it has now."""
        return len(self.admission.tokens) + len(self.generated)

    @property
    def to_compute(self) -> int:
        """Tokens to be computed before the first new one."""
        return self.size - self.prefix.length

    def must_leave(self, now: float) -> StopReason | None:
        """Why the row must end although its text is not complete, or None."""
        if self.stop_reason is not None:
            return self.stop_reason
        admission = self.admission
        due: list[tuple[float, StopReason]] = []
        if admission.deadline is not None and admission.deadline <= now:
            due.append((admission.deadline, "timeout"))
        if admission.expires is not None and admission.expires <= now:
            due.append((admission.expires, "expired"))
        return min(due)[1] if due else None

    def take(self, token: int) -> Delta | None:
        """Add a generated token; return the text it lets be shown."""
        self.cleared, self.strikes = True, 0  # whoever gets a token did not break the steps before it
        return self._tell(self._take(token))

    def flush(self) -> Delta | None:
        """Return the rest of the text: nothing more is coming."""
        text = self._stops.push(self._detokenizer.flush().replace(NUL, REPLACEMENT)) + self._stops.flush()
        self._parts.append(text)
        return self._tell(text)

    def finished(self, reason: FinishReason) -> Finished:
        """The record of a good end; call :meth:`flush` before."""
        job_id, fence = self.admission.key
        return Finished(
            job_id=job_id,
            fence=fence,
            text="".join(self._parts),
            finish_reason=reason,
            prompt_tokens=len(self.admission.tokens) if self.started else 0,
            cached_tokens=self.cached or 0,
            completion_tokens=len(self.generated),
            token_ids=tuple(self.generated),
        )

    def withdrawn(self, *, parked: bool = False) -> Withdrawn:
        """The record of being taken out unfinished."""
        return Withdrawn(*self.admission.key, token_ids=tuple(self.generated), parked=parked)

    def _take(self, token: int) -> str:
        self.generated.append(token)
        self._untold += 1
        text = self._detokenizer.push(token)
        if not text:
            return text
        if NUL in text:
            text = text.replace(NUL, REPLACEMENT)
        text = self._stops.push(text)
        self._parts.append(text)
        return text

    def _tell(self, text: str) -> Delta | None:
        if not text:
            return None
        n_tokens, self._untold = self._untold, 0
        return Delta(self.admission.job_id, self.admission.fence, text, n_tokens)

"""What the engine says: one small frozen record for each thing that happened to a job.

Every record carries the job's id and the fence of its attempt, so that a
listener can write it down without asking the engine anything back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled", "timeout", "expired"]
StopReason = Literal["cancelled", "timeout", "expired"]


@dataclass(frozen=True, slots=True)
class Started:
    """The job's row has been handed to the decoder; said once an attempt."""

    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Delta:
    """New text that may be shown, and the tokens generated since the last delta of this job.

    Text held back (half a character, a possible stop string) comes later or
    never, so a delta can carry several tokens; ``text`` is never empty.
    """

    job_id: str
    fence: int
    text: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The job ended in good order, or was stopped and keeps what it has.

    ``text`` is all the text of the job, tokens of earlier attempts included,
    and equals the deltas of all its attempts joined. ``token_ids`` are the
    generated tokens without the end-of-sequence token; ``completion_tokens``
    is their number. ``prompt_tokens`` is 0 for a job that was stopped before
    its row was handed to the decoder.
    """

    job_id: str
    fence: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; ``retryable`` says whether another one may go better.

    ``type`` is ``context_length``, ``row_bytes``, ``batch_bytes`` or ``invalid_prompt``
    (the job can never run here), ``row_error`` (something called for this row
    alone failed), ``engine_error`` (the row was in too many broken steps) or
    ``out_of_memory`` (the device had no memory for this row alone).
    ``at_most`` is how many failures a job may have before this reason ends
    it, where that is fewer than its own limit; None leaves it to that limit.
    """

    job_id: str
    fence: int
    type: str
    message: str
    retryable: bool
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The job was taken out unfinished; admit it again with ``token_ids`` as its prior tokens.

    ``parked`` says that it made room for a job of a better class.
    """

    job_id: str
    fence: int
    token_ids: tuple[int, ...]
    parked: bool = False


Output = Started | Delta | Finished | Failed | Withdrawn

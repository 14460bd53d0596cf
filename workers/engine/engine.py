"""The engine: decodes the jobs it holds together, one token a step.

It is driven by one thread and knows neither database nor queue nor device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from workers.engine.admission import Admission
from workers.engine.backend import Backend, LlmInfo, TokenOut
from workers.engine.gate import Gate, Limits
from workers.engine.outputs import Failed, FinishReason, Output, Started, StopReason, Withdrawn
from workers.engine.recovery import EngineDead, Recovery
from workers.engine.roster import Roster
from workers.engine.sequence import Sequence
from workers.engine.stats import Counters, EngineStats

log = logging.getLogger(__name__)


class Engine:
    """Holds jobs until they end; :meth:`step` is the whole of it.

    Not thread-safe: :class:`workers.engine.thread.EngineThread` lends it to
    other threads. ``clock`` is what deadlines are compared with.
    """

    def __init__(self, backend: Backend, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._gate = Gate(backend.info, limits)
        self._recovery = Recovery()
        self._roster = Roster()
        self._clock = clock
        self._outputs: list[Output] = []
        self._counters = Counters()

    def step(self) -> list[Output]:
        """Let go who must leave, let in who fits, decode one token for all, and tell what happened.

        Raises :class:`EngineDead` when the batch cannot be rebuilt.
        """
        try:
            self._let_go()
            self._let_in()
            if self._roster.live:
                self._decode()
        except Exception as error:  # noqa: BLE001 - whatever broke, the batch is unusable and is rebuilt
            self._rebuild(error)
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def info(self) -> LlmInfo:
        """What is known of the LLM."""
        return self._backend.info

    @property
    def held(self) -> int:
        """Jobs here, waiting or live."""
        return len(self._roster)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do or tell anything."""
        return bool(self._outputs) or len(self._roster) > 0

    def submit(self, admissions: Iterable[Admission]) -> None:
        """Take attempts in; those of one call that fit are admitted together at the next step.

        An attempt already here is not taken twice. One that can never run
        here is told as :class:`Failed` by the next step.
        """
        for admission in admissions:
            if admission.key not in self._roster:
                self._accept(admission)

    def cancel(self, job_id: str, fence: int, reason: StopReason = "cancelled") -> None:
        """Let the attempt end at the next step with what it has; unknown attempts are ignored."""
        sequence = self._roster.find((job_id, fence))
        if sequence is not None and sequence.stop_reason is None:
            sequence.stop_reason = reason

    def withdraw_all(self) -> list[Withdrawn]:
        """Take everything out, oldest first."""
        sequences = list(self._roster)
        self._take_out(sequences)
        return [sequence.withdrawn() for sequence in sequences]

    def stats(self) -> EngineStats:
        """Figures up to now."""
        return self._counters.snapshot(
            rows=len(self._roster.live),
            waiting=len(self._roster.waiting),
            live_bytes=self._backend.live_bytes(),
        )

    def check_integrity(self) -> None:
        """Raise AssertionError unless the books agree with each other and with the backend."""
        self._roster.check_integrity()
        self._gate.check_integrity(self._roster.live.values())
        self._backend.check_integrity({uid: sequence.tokens for uid, sequence in self._roster.live.items()})

    # The parts of a step, in their order.

    def _let_go(self) -> None:
        now = self._clock()
        uids = []
        for sequence in self._roster:
            reason = sequence.must_leave(now)
            if reason is not None:
                uids.append(self._roster.remove(sequence))
                self._tell_end(sequence, reason)
        self._drop(uids)

    def _let_in(self) -> None:
        waiting, live = self._roster.waiting, self._roster.live.values()
        if waiting:
            joining = self._recovery.filter(self._gate.choose(waiting, live), live)
            self._gate.note(waiting, joining)
            self._seat(joining)

    def _decode(self) -> None:
        result = self._backend.step()
        self._recovery.survived()
        self._counters.note(len(result.tokens), result.prefilled)
        self._drop([self._advance(token) for token in result.tokens])
        for uid, error in result.failed:
            sequence = self._roster.live.get(uid)
            if sequence is not None:
                self._fail(sequence, "row_error", error)

    def _rebuild(self, error: Exception) -> None:
        """Start over with an empty batch; its rows wait to be admitted again from their tokens."""
        log.warning("An engine step broke; rebuilding the batch", exc_info=error)
        guilty = self._recovery.blame(self._roster.live.values(), error)
        try:
            self._backend.reset()
        except Exception as fault:
            raise EngineDead("the batch could not be rebuilt after a broken step") from fault
        self._roster.unseat_all()
        for sequence in guilty:
            self._fail(sequence, "engine_error", error)

    # What they are made of.

    def _accept(self, admission: Admission) -> None:
        refusal = self._gate.refuses(admission)
        if refusal is not None:
            self._outputs.append(Failed(*admission.key, *refusal, retryable=False))
            return
        try:
            sequence = Sequence(admission, self._backend.detokenizer())
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self._outputs.append(Failed(*admission.key, "row_error", _words(error), retryable=True))
            return
        if sequence.over is None:
            self._roster.add(sequence)
        else:
            self._tell_end(sequence, sequence.over)

    def _seat(self, chosen: list[Sequence]) -> None:
        """Hand sequences to the backend together; when it refuses, find the one that it refuses."""
        if not chosen:
            return
        try:
            uids = self._backend.add([sequence.row() for sequence in chosen])
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            if len(chosen) == 1:
                self._fail(chosen[0], "row_error", error)
            else:
                for sequence in chosen:
                    self._seat([sequence])
            return
        self._roster.seat(chosen, uids)
        self._outputs.extend(Started(*sequence.admission.key) for sequence in chosen if not sequence.started)
        for sequence in chosen:
            sequence.started = True

    def _advance(self, out: TokenOut) -> int | None:
        """Give a row its token; return its uid if it ended while the backend still holds it."""
        uid, token, end = out
        sequence = self._roster.live.get(uid)
        if sequence is None:
            return None
        try:
            if end != "stop":
                delta = sequence.take(token)
                if delta is not None:
                    self._outputs.append(delta)
            over = sequence.over or end
            if over is None:
                return None
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self._fail(sequence, "row_error", error)
        else:
            self._roster.remove(sequence)
            self._tell_end(sequence, over)
        return None if end else uid

    def _tell_end(self, sequence: Sequence, reason: FinishReason) -> None:
        try:
            rest = sequence.flush()
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self._outputs.append(Failed(*sequence.admission.key, "row_error", _words(error), retryable=True))
            return
        if rest is not None:
            self._outputs.append(rest)
        self._outputs.append(sequence.finished(reason))

    def _fail(self, sequence: Sequence, kind: str, error: Exception) -> None:
        log.warning("Job %s failed in the engine (%s)", sequence.admission.job_id, kind, exc_info=error)
        self._roster.remove(sequence)
        self._outputs.append(Failed(*sequence.admission.key, kind, _words(error), retryable=True))

    def _take_out(self, sequences: list[Sequence]) -> None:
        """Remove sequences between two steps."""
        try:
            self._drop([self._roster.remove(sequence) for sequence in sequences])
        except Exception as error:  # noqa: BLE001 - as in a step
            self._rebuild(error)

    def _drop(self, uids: list[int | None]) -> None:
        """Let the backend forget rows; None stands for one that has no row there."""
        rows = [uid for uid in uids if uid is not None]
        if rows:
            self._backend.remove(rows)


def _words(error: Exception) -> str:
    """What an error says, for a message to the job's owner."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

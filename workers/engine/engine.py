"""The engine: decodes the jobs it holds together, one token a step.

It is driven by one thread and knows neither database nor queue nor device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from workers.cache.disk import DiskTier
from workers.engine.admission import Admission
from workers.engine.backend import Backend, OutOfMemory, StepResult, TokenOut
from workers.engine.gate import Gate
from workers.engine.limits import Limits
from workers.engine.outbox import OUT_OF_MEMORY, Outbox
from workers.engine.outputs import Output, StopReason, Withdrawn
from workers.engine.parking import surplus
from workers.engine.prefill import PrefillPace
from workers.engine.recovery import EngineDead, Recovery
from workers.engine.reuse import Reuse
from workers.engine.roster import Roster
from workers.engine.sequence import Sequence
from workers.engine.stats import Counters, EngineStats

log = logging.getLogger(__name__)


class Engine:
    """Holds jobs until they end; :meth:`step` is the whole of it.

    Not thread-safe: :class:`workers.engine.thread.EngineThread` lends it to
    other threads. ``clock`` is what deadlines are compared with, ``disk`` where
    blocks of the pool outlive the process.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        disk: DiskTier | None = None,
    ) -> None:
        self._backend = backend
        self._pace = PrefillPace(limits.prefill_tokens, limits.prefill_stall)
        self._prefill_rows = limits.prefill_rows
        self._decoding = 0
        self.reuse = Reuse(backend, limits, disk, self._pace, clock)
        self._gate = Gate(backend.info, limits)
        self._recovery = Recovery()
        self._roster = Roster()
        self._joining: list[Sequence] = []
        self._clock = clock
        self._outbox = Outbox()
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
            self.reuse.tidy()
        except Exception as error:  # noqa: BLE001 - whatever broke, the batch is unusable and is rebuilt
            self._rebuild(error)
        if not self._roster:
            self._gate.rows.restore()
        return self._outbox.empty()

    @property
    def held(self) -> int:
        """Jobs here, waiting or live."""
        return len(self._roster)

    @property
    def max_rows(self) -> int:
        """Rows that may decode together now: fewer than the limit after the device ran out of memory."""
        return self._gate.rows.now

    def parkable(self) -> list[tuple[int, int]]:
        """Priority and rank of the jobs here that could make room for one of a better class."""
        return [
            (sequence.admission.priority, sequence.admission.rank)
            for sequence in self._roster
            if sequence.may_be_parked
        ]

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do or tell anything."""
        return bool(self._outbox or self._roster)

    @property
    def idle_seconds(self) -> float | None:
        """How long there is nothing for :meth:`step` to write to disk; None for ever."""
        due = self.reuse.saving.due
        return None if due is None else max(0.0, due - self._clock())

    @property
    def is_due(self) -> bool:
        """Whether :meth:`step` would write something to disk."""
        return self.idle_seconds == 0.0

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
        """Take everything out, oldest first; what their caches hold is kept."""
        sequences = list(self._roster)
        try:
            for sequence in sequences:
                self.reuse.leaves(sequence)
            self._drop([self._roster.remove(sequence) for sequence in sequences])
        except Exception as error:  # noqa: BLE001 - as in a step
            self._rebuild(error)
        return [sequence.withdrawn() for sequence in sequences]

    def stats(self) -> EngineStats:
        """Figures up to now."""
        return self._counters.snapshot(
            rows=len(self._roster.live),
            waiting=len(self._roster.waiting),
            live_bytes=self._backend.live_bytes(),
            pool_bytes=self._backend.pool_bytes(),
            reused_tokens=self.reuse.reused_tokens,
            restored_tokens=self.reuse.restored_tokens,
        )

    def check_integrity(self) -> None:
        """Raise AssertionError unless the books agree with each other and with the backend."""
        self._roster.check_integrity()
        self._gate.check_integrity(self._roster.live.values())
        self.reuse.cache.check_integrity()
        rows = {uid: sequence.tokens for uid, sequence in self._roster.live.items()}
        self._backend.check_integrity(rows, self.reuse.cache.blocks())

    # The parts of a step, in their order.

    def _let_go(self) -> None:
        now = self._clock()
        uids = []
        for sequence in self._roster:
            reason = sequence.must_leave(now)
            if reason is not None:
                self.reuse.leaves(sequence)
                uids.append(self._roster.remove(sequence))
                self._outbox.finished(sequence, reason)
        self._drop(uids)

    def _let_in(self) -> None:
        live = self._roster.live.values()
        waiting = self.reuse.ready(self._roster.waiting, nap=not live) if self._roster.waiting else []
        if not waiting:
            return
        choice = self._gate.choose(waiting, live)
        self._joining = asked = choice.joining
        allowed = self._recovery.filter(self.reuse.allowed(asked), live)
        if len(allowed) < len(asked):
            choice = self._gate.choose(allowed, live)  # room is made only for those who join
        self._gate.note(waiting, choice.joining)
        over = self.held - len(choice.parked) - self._gate.limits.max_rows
        self._park(choice.parked + surplus(waiting, choice.joining, over))
        self._seat(choice.joining)
        self.reuse.joined(asked)
        self._joining = []

    def _decode(self) -> None:
        began = self._clock()
        reading = min(len(self._roster.live) - self._decoding, self._prefill_rows)
        result = self._backend.step(self._pace.piece(self._decoding, reading))
        self._recovery.survived()
        if result.tokens:
            self._gate.rows.survived()
        self._counters.note(len(result.tokens), result.prefilled)
        self._pace.learn(self._clock() - began, self._decoding, result.prefilled)
        self._take(result)
        self._decoding = len(self._roster.live) - len(result.read)

    def _take(self, result: StepResult) -> None:
        """Pass on what a step brought."""
        for uid, read in result.read:
            sequence = self._roster.live.get(uid)
            if sequence is not None:
                self.reuse.progressed(sequence, read)
        self._drop([self._advance(token) for token in result.tokens])
        for uid, error in result.failed:
            sequence = self._roster.live.get(uid)
            if sequence is not None:
                self._fail(sequence, "row_error", error)

    def _rebuild(self, error: Exception) -> None:
        """Start over with an empty batch; its rows wait to be admitted again from their tokens."""
        log.warning("An engine step broke; rebuilding the batch", exc_info=error)
        is_memory = isinstance(error, OutOfMemory)
        self._decoding = 0
        self.reuse.lost([*self._roster.live.values(), *self._joining])
        guilty = self._shrink() if is_memory else self._recovery.blame(self._roster.live.values(), error)
        try:
            self._backend.reset()
        except Exception as fault:
            raise EngineDead("the batch could not be rebuilt after a broken step") from fault
        self._roster.unseat_all()
        for sequence in guilty:
            self._fail(sequence, OUT_OF_MEMORY if is_memory else "engine_error", error)

    def _shrink(self) -> list[Sequence]:
        """Let fewer rows decode together; return the row that had the device to itself, and must fail."""
        roster, joining = self._roster, self._joining
        tried = [*roster.live.values(), *(row for row in joining if row in roster.waiting)]
        self._gate.rows.shrink(len(tried))
        self.reuse.make_room()
        log.warning("No memory for %d rows; going on with %d", len(tried), self._gate.rows.now)
        return tried if len(tried) == 1 else []

    # What they are made of.

    def _accept(self, admission: Admission) -> None:
        refusal = self._gate.refuses(admission)
        if refusal is not None:
            self._outbox.refused(admission.key, *refusal)
            return
        try:
            sequence = Sequence(admission, self._backend.detokenizer())
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self._outbox.failed(admission.key, "row_error", error)
            return
        if sequence.over is None:
            self._roster.add(sequence)
            self.reuse.arrive(sequence)
        else:
            self._outbox.finished(sequence, sequence.over)

    def _park(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.reuse.leaves(sequence)
        uids = [self._roster.remove(sequence) for sequence in sequences]
        for sequence in sequences:
            self._outbox.parked(sequence)
        self._drop(uids)

    def _seat(self, chosen: list[Sequence]) -> None:
        """Hand sequences to the backend together; when it refuses, find the one that it refuses."""
        if not chosen:
            return
        self.reuse.refresh(chosen)
        try:
            uids = self._backend.add([sequence.row() for sequence in chosen])
        except OutOfMemory:
            raise  # no row is to blame: the batch is rebuilt smaller
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            if len(chosen) == 1:
                self._fail(chosen[0], "row_error", error)
            else:
                for sequence in chosen:
                    self._seat([sequence])
            return
        self._roster.seat(chosen, uids)
        self.reuse.seated(chosen)
        self._outbox.started(chosen)

    def _advance(self, out: TokenOut) -> int | None:
        """Give a row its token; return its uid if it has ended: the backend may let go of it."""
        uid, token, end = out
        sequence = self._roster.live.get(uid)
        if sequence is None:
            return None
        sequence.read = sequence.size
        try:
            if end != "stop":
                self._outbox.shown(sequence.take(token))
            over = sequence.over or end
            if over is None:
                return None
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            self._fail(sequence, "row_error", error)
        else:
            self.reuse.leaves(sequence, token if end == "stop" else None)
            self._roster.remove(sequence)
            self._outbox.finished(sequence, over)
        return uid

    def _fail(self, sequence: Sequence, kind: str, error: Exception) -> None:
        self.reuse.lost([sequence])
        self._roster.remove(sequence)
        self._outbox.failed(sequence.admission.key, kind, error)

    def _drop(self, uids: list[int | None]) -> None:
        """Let the backend forget rows; None stands for one that has no row there."""
        rows = [uid for uid in uids if uid is not None]
        if rows:
            self._backend.remove(rows)

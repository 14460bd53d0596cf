"""Writes down what the engine says, in its own thread, so that decoding never waits for a disk.

Endings are kept until the database has them: while it does not answer they are
tried again and again, and only a stop that cannot wait longer leaves them open.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from config import telemetry
from config.settings import Settings
from models import endings, jobs, lanes
from models.base import utcnow
from models.claims import Claim
from models.database import Database, Unavailable
from models.endings import Ended, Ending
from workers.broker import Broker, LiveLog, TokenDelta, wake, wake_all
from workers.engine import Delta, Failed, Finished, Output, Started, Withdrawn
from workers.identity import Identity
from workers.ledger import Ledger, Over, Running
from workers.vital import ends, vital_thread

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 0.5
"""Pause before endings are written again when the database does not answer."""


class Recorder:
    """Keeps the running jobs' books between the engine and the database."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts are wired in one place, by name where it matters
        self,
        database: Database,
        broker: Broker,
        live: LiveLog,
        identity: Identity,
        ledger: Ledger,
        settings: Settings,
        llm: str,
        on_room: Callable[[], None],
        on_death: Callable[[], None],
    ) -> None:
        self._database = database
        self._broker = broker
        self._live = live
        self._identity = identity
        self._ledger = ledger
        self._llm = llm
        self._flush_seconds = settings.live.flush_ms / 1000
        self._on_room = on_room
        self._running: dict[tuple[str, int], Running] = {}
        self._guard = threading.Lock()
        self._inbox: queue.SimpleQueue[Sequence[Output] | Ending | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._thread = vital_thread("recorder", self._run, on_death)
        self.ended_total = 0

    def expect(self, claims: Sequence[Claim]) -> None:
        """Open the books of claimed jobs; call it as soon as the claim is committed."""
        with self._guard:
            self._running.update({(claim.job_id, claim.fence): Running(claim) for claim in claims})

    def take(self, outputs: Sequence[Output]) -> None:
        """What the engine said in one step; returns at once."""
        self._inbox.put(outputs)

    def refuse(self, ending: Ending) -> None:
        """An ending of a job that never reached the engine."""
        self._inbox.put(ending)

    def knows(self, job_id: str, fence: int) -> bool:
        """Whether the books of this attempt are open."""
        with self._guard:
            return (job_id, fence) in self._running

    @property
    def running(self) -> int:
        """Jobs claimed and not yet written down as ended."""
        return len(self._running)

    def open_books(self) -> list[tuple[str, int]]:
        """Job and fence of all those."""
        with self._guard:
            return list(self._running)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Write what is left, then return; what the database has not taken after ``seconds`` stays open."""
        self._inbox.put(None)
        if not ends(self._thread, seconds):
            self._given_up.set()
            log.error("the database does not answer: the books of %d jobs stay open", self.running)

    def _run(self) -> None:
        flush_at = time.monotonic() + self._flush_seconds
        open_ = True
        while open_:
            batch = self._gather(flush_at)
            open_ = None not in batch
            self._write([item for item in batch if item is not None])
            if time.monotonic() >= flush_at or not open_:
                self._flush()
                flush_at = time.monotonic() + self._flush_seconds

    def _gather(self, until: float) -> list[Sequence[Output] | Ending | None]:
        """What has come in: waits for the first, takes all that is there behind it."""
        try:
            timeout = max(0.0, until - time.monotonic()) if self._running else None
            batch = [self._inbox.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._inbox.empty():
            batch.append(self._inbox.get())
        return batch

    def _write(self, batch: Sequence[Sequence[Output] | Ending]) -> None:
        over = Over()
        for item in batch:
            if isinstance(item, Ending):
                over.failed.append((item, 0))
                continue
            for output in item:
                self._sort(output, over)
        if over:
            self._flush()
            self._store(over)
            self._on_room()

    def _sort(self, output: Output, over: Over) -> None:
        running = self._running.get((output.job_id, output.fence))
        if running is None:
            return
        match output:
            case Started():
                running.first_step_at = utcnow()
                ready_at = running.claim.ready_at
                if ready_at is not None:
                    waited = (running.first_step_at - ready_at).total_seconds()
                    telemetry.pickup_seconds.labels(self._llm).observe(max(0.0, waited))
            case Delta():
                running.pending_text += output.text
                running.pending_tokens += output.n_tokens
            case Finished():
                over.finished.append(self._ledger.finished(running, output))
            case Failed():
                over.failed.append(self._ledger.failure(running, output))
            case Withdrawn():
                over.kept.append(output)

    def _flush(self) -> None:
        """Show the tokens that have come since the last time."""
        deltas = []
        with self._guard:
            books = list(self._running.items())
        for (job_id, _), running in books:
            if running.pending_text:
                deltas.append(
                    TokenDelta(
                        running.claim.tenant_id, job_id, running.claim.attempt,
                        running.pending_text, running.pending_tokens,
                    )
                )  # fmt: skip
                running.pending_text, running.pending_tokens = "", 0
        if not deltas:
            return
        try:
            self._live.append(deltas)
        except Exception:
            # Tokens shown while they come are a courtesy; the result is what counts.
            log.warning("live tokens were not shown", exc_info=True)

    def _store(self, over: Over) -> None:
        while True:
            try:
                ended = self._transact(over)
                break
            except Unavailable as error:
                log.warning("endings wait for the database: %s", error)
                if self._given_up.wait(TRY_AGAIN_SECONDS):
                    return
            except Exception:
                if len(over) == 1:
                    raise
                log.exception("endings cannot be written together; each is written apart")
                self._store_apart(over)
                return
        with self._guard:
            for key in over.keys:
                self._running.pop(key, None)
        cached = sum(ending.usage.cached_tokens for ending in over.finished)
        telemetry.engine_cached_tokens.labels(self._llm).inc(cached)
        self.ended_total += sum(job.is_terminal for job in ended.jobs)
        if ended.late:
            telemetry.late_results.inc(len(ended.late))
            log.warning("late results changed nothing: %s", ", ".join(ended.late))

    def _store_apart(self, over: Over) -> None:
        """One transaction an ending, the one that breaks last: it must not cost the others theirs."""
        broken: list[Exception] = []
        for one in over.apart():
            try:
                self._store(one)
            except Exception as error:  # noqa: BLE001  (raised when the others are written)
                broken.append(error)
        if broken:
            raise broken[0]

    def _seconds(self, kept: Sequence[Withdrawn]) -> dict[str, float]:
        """For how long jobs that go back have been here, by the clock that no one sets."""
        now = time.monotonic()
        return {k.job_id: now - self._running[k.job_id, k.fence].since for k in kept}

    def _transact(self, over: Over) -> Ended:
        now, worker_id = utcnow(), self._identity.worker_id
        with self._database.write() as session:
            ended = endings.finish(session, over.finished, worker_id, now)
            for ending, at_most in over.failed:
                ended.add(endings.fail_attempt(session, ending, self._ledger.pause, worker_id, now, at_most))
            for job in ended.jobs:
                if not job.is_terminal and job.run_at is not None:
                    delay = round((job.run_at - now).total_seconds() * 1000)
                    wake(self._broker, session, job.llm, [job.id], delay_ms=delay)
            for outcome, parked in (("handed_back", False), ("parked", True)):
                kept = [(k.job_id, k.fence, k.token_ids) for k in over.kept if k.parked is parked]
                ended.released += jobs.hand_back(session, kept, outcome, now, self._seconds(over.kept))
            wake_all(self._broker, session, ended.released + lanes.freed(session, ended.jobs))
        return ended

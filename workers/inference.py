"""The inference process: the only one that touches an LLM.

Hints ring the dispatcher's bell; the dispatcher claims and hands over; the
engine decodes; the recorder writes down. Each has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from config.prices import load_prices
from config.settings import Settings
from models import jobs
from models import workers as worker_rows
from models.base import utcnow
from models.claims import Claim
from models.database import Database
from models.endings import Ending
from models.requests import CompletionRequest
from workers import stopping
from workers.backends import make_backend
from workers.broker import make_broker, make_live_log, make_worker, register_drain, wake_all
from workers.control import Control
from workers.dispatcher import Dispatcher
from workers.engine import Admission, EngineDead, EngineThread, Limits, LlmInfo, Output
from workers.gauges import Gauges
from workers.identity import Identity
from workers.ledger import Ledger
from workers.outage import outlast
from workers.recorder import Recorder
from workers.signals import StopSignal

log = logging.getLogger(__name__)

STRANGE_AFTER = timedelta(seconds=10)
"""Age at which a claim that this worker knows nothing of was surely never answered."""

LOOK_UP_SECONDS = 0.1
"""How often it is asked, while the LLM is loaded, whether to stop."""


class Inference:
    """All threads of the process, wired in one place."""

    def __init__(self, settings: Settings, database: Database, on_death: Callable[[], None]) -> None:
        self._settings = settings
        self._database = database
        self._on_death = on_death
        self.is_broken = False
        self.llm = settings.served_llm
        self.identity = Identity(database, "inference", settings.data_dir)
        self._ledger = Ledger(load_prices(), settings.queue, settings.currency)
        self._broker = make_broker(settings, database)
        self._live = make_live_log(settings, database)
        chosen = settings.engine
        limits = Limits(chosen.max_rows, chosen.max_batch_bytes, chosen.max_row_bytes)
        self.engine = EngineThread(
            lambda: make_backend(settings, self.llm), limits, self._hear, on_dead=lambda _: self.die()
        )
        self.recorder = Recorder(
            database, self._broker, self._live, self.identity, self._ledger, settings,
            on_room=self._ring, on_death=self.die,
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            database,
            self.engine,
            self.identity,
            self.recorder,
            self._admission,
            settings,
            on_others=partial(wake_all, self._broker),
            on_death=self.die,
        )
        self.gauges = Gauges(self.llm, self.engine.stats, lambda: self.recorder.ended_total)
        self.control = Control(database, settings.worker, self)
        register_drain(self._broker, lambda _ids: self.dispatcher.ring())
        self._hints = make_worker(self._broker, self.llm)

    def start(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Load the LLM, tell of it, and begin to work; False when a stop was asked for before that.

        A database that is away is waited for. Raises :class:`EngineDead`, caused by what loading raised.
        """
        if not outlast(self._unpublish, is_stopping) or not outlast(self.identity.register, is_stopping):
            return False
        self.control.start()
        self.engine.start()
        while (info := self._loaded()) is None:
            if is_stopping():
                return False
        if not outlast(partial(self._publish, info), is_stopping):
            return False
        self.recorder.start()
        self.dispatcher.start()
        self._hints.start()
        log.info("serving %s as %s, context %d tokens", info.name, self.llm, info.context_length)
        return True

    def _loaded(self) -> LlmInfo | None:
        try:
            return self.engine.ready(LOOK_UP_SECONDS)
        except TimeoutError:
            return None

    def stop(self, grace_seconds: float) -> bool:
        """Stop claiming, finish what fits in the grace time, give the rest back, leave; True if all went so.

        No part is waited for longer than :mod:`workers.stopping` says. What a part could not
        write down goes back with the last transaction: the fence keeps anything later from counting.
        """
        stopping.within(stopping.HINTS_SECONDS, "the end of hints", self._hints.stop)
        self.dispatcher.stop(stopping.CLAIM_SECONDS)
        if not self.engine.drain(grace_seconds):
            log.info("giving %d jobs back", self.engine.held)
        if not self.engine.stop(stopping.STEP_SECONDS):
            log.warning("the engine is not waited for: it is loading, or at a long step")
        self.recorder.stop(stopping.BOOKS_SECONDS)
        self.control.stop(stopping.PULSE_SECONDS)
        self.gauges.publish()
        left = stopping.within(stopping.LEAVE_SECONDS, "leaving", self._leave)
        self._live.close()
        self._broker.close()
        return left

    def _leave(self) -> None:
        """The last transaction; what a broken worker holds counts as lost, for it may have broken it."""
        if not self.identity.worker_id:
            return  # it never came in
        held = [] if self.is_broken else self.recorder.open_books()
        with self._database.write() as session:
            given = self.identity.leave(session, self._settings.currency, held)
            wake_all(self._broker, session, given)

    def die(self) -> None:
        """Let the process end; a part of it broke."""
        self.is_broken = True
        self._on_death()

    def _ring(self) -> None:
        self.dispatcher.ring()

    def _hear(self, outputs: Sequence[Output]) -> None:
        self.recorder.take(outputs)

    def _admission(self, claim: Claim) -> Admission | Ending:
        """What the engine needs of a claim, or why it never can."""
        try:
            request = CompletionRequest.model_validate_json(claim.request)
            tokens = self.engine.encode(request.messages)
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            return self._ledger.failed(claim, claim.fence, "invalid_prompt", str(error))
        now = time.monotonic()
        left = None if claim.expires_at is None else (claim.expires_at - utcnow()).total_seconds()
        return Admission(
            claim.job_id, claim.fence, tokens, request.sampling, claim.progress,
            deadline=now + claim.timeout_seconds - claim.spent_seconds,
            expires=None if left is None else now + left,
            priority=claim.priority, rank=claim.rank,
        )  # fmt: skip

    def is_busy(self) -> bool:
        """Whether any job of this worker has not been written down as ended."""
        return self.recorder.running > 0

    def is_stalled(self) -> bool:
        """Whether the engine has been at one step for too long; said once."""
        limit = self._settings.worker.stall_seconds
        return not self.is_broken and 0 < limit < self.engine.step_seconds()

    def cancel(self, job_id: str, fence: int) -> None:
        """Stop a job at the next engine step."""
        self.engine.cancel(job_id, fence)

    def publish(self) -> None:
        """Bring the metrics up to the engine's totals."""
        self.gauges.publish()

    def disown_strangers(self) -> None:
        """Give back jobs that stand in this worker's name and that it knows nothing of.

        A claim whose commit was done but not answered leaves such; they were never begun.
        """
        now = utcnow()
        with self._database.read() as session:
            mine = jobs.running_under(session, self.identity.worker_id, now - STRANGE_AFTER)
        strangers = [
            (job_id, fence, None) for job_id, fence in mine if not self.recorder.knows(job_id, fence)
        ]
        if strangers:
            log.warning("giving back %d jobs whose claim was never answered", len(strangers))
            with self._database.write() as session:
                jobs.hand_back(session, strangers, "handed_back", now)
            self.dispatcher.ring()

    def give_up_jobs(self) -> None:
        """Take everything out of the engine (the fence keeps what comes of it from counting); claim anew."""
        self.engine.withdraw_all()
        self.dispatcher.ring()

    def figures(self) -> dict[str, object]:
        """What the heartbeat carries; also stores the rate from which waits are estimated."""
        figures = self.gauges.figures()
        if self.gauges.jobs_per_second:
            with self._database.write() as session:
                worker_rows.publish_rate(session, self.llm, self.gauges.jobs_per_second, utcnow())
        return figures

    def _unpublish(self) -> None:
        """What an earlier process said of the LLM is no longer so."""
        with self._database.write() as session:
            worker_rows.note_readiness(session, self.llm)

    def _publish(self, info: LlmInfo) -> None:
        row = worker_rows.Llm(
            alias=self.llm, name=info.name, context_length=info.context_length,
            vocabulary=info.vocab_size, fingerprint=info.fingerprint,
            tokenizer=info.tokenizer_path, ready=True, updated_at=utcnow(),
        )  # fmt: skip
        with self._database.write() as session:
            worker_rows.publish_llm(session, row)
            self.identity.serve(session, self.llm)


def main(settings: Settings, check_schema: Callable[[Database], None]) -> int:
    """Serve until SIGTERM; 0 after a clean stop, 1 when a part died or jobs could not be given back.

    A database that is away at the start is waited for.
    ``check_schema`` raises when the database's schema does not fit this program.
    """
    stop = StopSignal()
    database = Database.connect(
        settings.database_url,
        pool_size=settings.database.pool_size,
        busy_timeout_ms=settings.database.busy_timeout_ms,
    )
    if not outlast(partial(check_schema, database), lambda: stop.is_set):
        return 0
    inference = Inference(settings, database, stop.set)
    try:
        if inference.start(lambda: stop.is_set):
            stop.wait()
    except EngineDead:
        inference.is_broken = True
    if inference.is_broken:
        log.critical("a part of this process broke; its jobs go back and it ends")
    left = inference.stop(0 if inference.is_broken else settings.worker.grace_seconds)
    status = 0 if left and not inference.is_broken else 1
    if inference.engine.is_running:
        logging.shutdown()
        os._exit(status)  # nothing may be torn down under a thread that computes
    database.close()
    return status

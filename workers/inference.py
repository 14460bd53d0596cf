"""The inference process: the only one that touches LLMs.

Hints ring the dispatcher's bell; the dispatcher claims and hands over; the
engine decodes; the recorder writes down. Each has a thread of its own, once
for each LLM that is loaded; the registry says which those are.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from config.prices import load_prices
from config.settings import Settings
from models import agents, jobs
from models import workers as worker_rows
from models.base import utcnow
from models.claims import Claim
from models.commands import Kind
from models.database import Database, Unavailable
from models.endings import Ending
from models.requests import CompletionRequest
from workers import stopping
from workers.backends import make_backend
from workers.broker import make_broker, make_live_log, make_worker, register_drain, wake_all
from workers.commands import Commands
from workers.control import Control
from workers.conversations import Conversations, make_disk
from workers.dispatcher import Dispatcher
from workers.engine import Admission, EngineThread, LlmInfo, Output
from workers.engine.limits import limits_of
from workers.gauges import Gauges
from workers.identity import Identity
from workers.ledger import Ledger
from workers.outage import outlast
from workers.recorder import Recorder
from workers.registry import Registry
from workers.signals import StopSignal

log = logging.getLogger(__name__)

STRANGE_AFTER = timedelta(seconds=10)
"""Age at which a claim that this worker knows nothing of was surely never answered."""

LOOK_UP_SECONDS = 0.1
"""How often it is asked, while the LLM is loaded, whether to stop."""


class Inference:
    """A worker that serves one LLM: all its threads, wired in one place.

    It comes, loads its LLM once (sooner or later), and stops; for another LLM there is another one.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        llm: str,
        on_death: Callable[[], None],
        llms: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        """``llms`` says what the process can load, as in :class:`models.workers.Worker`."""
        self._settings = settings
        self._database = database
        self._on_death = on_death
        self.is_broken = False
        self.is_loaded = False
        self.llm = llm
        self.identity = Identity(database, "inference", settings.data_dir, llms)
        self._ledger = Ledger(load_prices(), settings.queue, settings.currency)
        self._broker = make_broker(settings, database)
        self._live = make_live_log(settings, database)
        self.engine = EngineThread(
            lambda: make_backend(settings, llm), limits_of(settings.engine), self._hear,
            make_disk=partial(make_disk, settings, llm), on_dead=lambda _: self._engine_died(),
        )  # fmt: skip
        self.recorder = Recorder(
            database, self._broker, self._live, self.identity, self._ledger, settings, llm,
            on_room=self._ring, on_death=self.die,
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            database, self.engine, self.identity, self.recorder, self._admission, settings, llm,
            on_others=partial(wake_all, self._broker), on_death=self.die,
        )  # fmt: skip
        self.gauges = Gauges(llm, self.engine.stats, lambda: self.recorder.ended_total)
        self.conversations = Conversations(database, self.engine, self.identity, llm)
        self.control = Control(database, settings.worker, self)
        register_drain(self._broker, lambda _ids: self.dispatcher.ring())
        self._hints = make_worker(self._broker, llm)

    def start(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """:meth:`come`, and :meth:`load` at once."""
        return self.come(is_stopping) and self.load(is_stopping)

    def come(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Register and begin to beat, without an LLM yet; False when a stop was asked for before that.

        A database that is away is waited for.
        """
        if not outlast(self.identity.register, is_stopping):
            return False
        self.control.start()
        return True

    def load(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Load the LLM, tell of it, and begin to work; False when a stop was asked for before that.

        Raises :class:`EngineDead`, caused by what loading raised; then only :meth:`stop` is left to do.
        """
        self.engine.start()
        while (info := self._ready()) is None:
            if is_stopping():
                return False
        if not outlast(partial(self._publish, info), is_stopping):
            return False
        self.is_loaded = True
        if self.engine.dead is not None:  # it has died already, when this was not known to be a death yet
            self.die()
        self.recorder.start()
        self.dispatcher.start()
        self._hints.start()
        self.control.obey(Commands(self._database, self.identity, self.llm, self))
        log.info("serving %s as %s, context %d tokens", info.name, self.llm, info.context_length)
        return True

    def _ready(self) -> LlmInfo | None:
        try:
            return self.engine.ready(LOOK_UP_SECONDS)
        except TimeoutError:
            return None

    @property
    def is_fresh(self) -> bool:
        """Whether the LLM could still be loaded: that goes only once."""
        return not self.is_loaded and self.engine.dead is None

    @property
    def is_running(self) -> bool:
        """Whether the engine's thread has not ended: nothing may be torn down under it."""
        return self.engine.is_running

    def stop(self, grace_seconds: float, step_seconds: float | None = None) -> bool:
        """Stop claiming, finish what fits in the grace time, give the rest back, leave; True if all went so.

        No part is waited for longer than :mod:`workers.stopping` says, but for the engine: its last step,
        and agents' blocks on their way to the disk, may take ``step_seconds``. What a part could not
        write down goes back with the last transaction: the fence keeps anything later from counting.
        """
        stopping.within(stopping.HINTS_SECONDS, "the end of hints", self._hints.stop)
        self.dispatcher.stop(stopping.CLAIM_SECONDS)
        if not self.engine.drain(grace_seconds):
            log.info("giving %d jobs back", self.engine.held)
        if not self.engine.stop(step_seconds or stopping.STEP_SECONDS):
            log.warning("the engine is not waited for: it is loading, or at a long step")
        self.recorder.stop(stopping.BOOKS_SECONDS)
        self.control.stop(stopping.PULSE_SECONDS)
        self.gauges.close()
        left = stopping.within(stopping.LEAVE_SECONDS, "leaving", self._leave)
        self._live.close()
        self._broker.close()
        return left

    def _leave(self) -> None:
        """The last transaction; what a broken worker holds counts as lost, for it may have broken it."""
        if not self.identity.worker_id:
            return  # it never came in
        with suppress(Unavailable):
            self.conversations.tell()  # what the engine has written to disk at its end
        held = [] if self.is_broken else self.recorder.open_books()
        with self._database.write() as session:
            given = self.identity.leave(session, self._settings.currency, held)
            wake_all(self._broker, session, given)

    def _engine_died(self) -> None:
        """While the LLM is loaded that is a failure to load it, and nobody's death."""
        if self.is_loaded:
            self.die()

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
            boundaries = self.engine.boundaries(request.messages, tokens)
        except Exception as error:  # noqa: BLE001 - a bad row fails its own job
            return self._ledger.failed(claim, claim.fence, "invalid_prompt", str(error))
        now = time.monotonic()
        left = None if claim.expires_at is None else (claim.expires_at - utcnow()).total_seconds()
        return Admission(
            claim.job_id, claim.fence, tokens, request.sampling, claim.progress,
            deadline=now + claim.timeout_seconds - claim.spent_seconds,
            expires=None if left is None else now + left,
            priority=claim.priority, rank=claim.rank,
            owner=None if claim.agent is None else agents.owner(claim.tenant_id, claim.agent),
            salt=claim.salt, boundaries=boundaries,
        )  # fmt: skip

    def is_busy(self) -> bool:
        """Whether any job of this worker has not been written down as ended."""
        return self.recorder.running > 0

    def is_at_work(self) -> bool:
        """Whether it has jobs, or the engine reads a prompt ahead."""
        return self.is_busy() or self.engine.held > 0

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

    def execute(self, kind: Kind, args: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Begin what a command asks."""
        return self.conversations.execute(kind, args)

    def set_window(self, ms: float) -> None:
        """Gather arrivals for so long from now on."""
        self.dispatcher.window_ms = ms

    def figures(self) -> dict[str, object]:
        """What the heartbeat carries; also stores what agents have cached, and how fast jobs end."""
        self.conversations.tell()
        figures = self.gauges.figures()
        if self.gauges.jobs_per_second:
            with self._database.write() as session:
                worker_rows.publish_rate(session, self.llm, self.gauges.jobs_per_second, utcnow())
        return figures

    def _publish(self, info: LlmInfo) -> None:
        row = worker_rows.Llm(
            alias=self.llm, name=info.name, context_length=info.context_length,
            vocabulary=info.vocab_size, fingerprint=info.fingerprint,
            tokenizer=info.tokenizer_path, updated_at=utcnow(),
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
    registry = Registry(settings, database, partial(Inference, settings, database), stop)
    registry.run()
    if registry.is_broken:
        log.critical("a part of this process broke; its jobs go back and it ends")
    status = 0 if registry.stop() and not registry.is_broken else 1
    if registry.is_running:
        logging.shutdown()
        os._exit(status)  # nothing may be torn down under a thread that computes
    database.close()
    return status

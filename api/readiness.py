"""Whether jobs can be stored and run: the database and its disk, a live worker, its LLM, the broker."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from api.pulse import Pulse
from api.wire.fields import CheckView
from api.wire.fleet import HealthView
from config.settings import Settings
from models import workers
from models.base import utcnow
from models.database import Database, Unavailable
from models.workers import Standing, Worker

log = logging.getLogger(__name__)

INFERENCE = "inference"
"""The kind of worker that runs jobs."""

BEARABLE = frozenset({"broker"})
"""Parts without which jobs are stored and run all the same, only later."""

MEBIBYTE = 1_048_576
LEAST_FREE = 32 * MEBIBYTE
"""Bytes that SQLite's disk must have left: one large body needs as many, and so does the log before it."""


class Readiness:
    """Judges heartbeats by this process's own clock, as the sweeper does."""

    def __init__(
        self, settings: Settings, database: Database, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._guard = threading.Lock()
        self._moved: dict[str, tuple[int, float]] = {}
        self._pulse = Pulse(settings.broker, clock)

    def startup(self) -> HealthView:
        """Whether the database answers."""
        try:
            with self._database.read() as session:
                workers.llms(session)
        except Unavailable as error:
            return _no_database(self._database, error)
        return HealthView(checks={"database": CheckView(ok=True, detail="it answers")})

    def check(self) -> HealthView:
        """Each part by its name."""
        try:
            with self._database.read() as session:
                alive = workers.alive(session)
        except Unavailable as error:
            return _no_database(self._database, error)
        broker = self._pulse.check()
        return HealthView(
            status="ok" if broker.ok else "degraded",
            checks={
                "database": self._room(),
                "worker": self._worker(alive),
                "llm": self._llm(alive),
                "broker": broker,
            },
        )

    def _room(self) -> CheckView:
        """Whether a database that answers can take more: SQLite needs room on our own disk."""
        if self._database.dialect == "sqlite":
            free = shutil.disk_usage(Path(str(self._database.engine.url.database)).parent).free
            if free < LEAST_FREE:
                return CheckView(
                    ok=False,
                    detail=f"its disk is full: {free // MEBIBYTE} MiB are left, and"
                    f" {LEAST_FREE // MEBIBYTE} are needed to store jobs and results",
                )
        return CheckView(ok=True, detail="it answers")

    def _worker(self, alive: Sequence[Worker]) -> CheckView:
        mine = [worker for worker in alive if worker.kind == INFERENCE]
        with self._guard:
            fresh = sum([self._is_fresh(worker) for worker in mine])  # each must be looked at
            self._moved = {worker.id: self._moved[worker.id] for worker in mine}
        if fresh:
            return CheckView(ok=True, detail=f"{fresh} inference worker{'s' if fresh > 1 else ''}")
        silent = f"{len(mine)} silent for {self._settings.worker.lease_seconds:g} seconds"
        return CheckView(
            ok=False, detail=f"no live inference worker ({silent if mine else 'none has started'})"
        )

    def _is_fresh(self, worker: Worker) -> bool:
        """Whether its counter moved within the lease; at first sight its own time must do."""
        now, lease = self._clock(), self._settings.worker.lease_seconds
        beats, since = self._moved.get(worker.id, (-1, now))
        if beats == -1:
            since = now - max(0.0, (utcnow() - worker.seen_at).total_seconds())
        elif beats != worker.beats:
            since = now
        self._moved[worker.id] = (worker.beats, since)
        return now - since <= lease

    def _llm(self, alive: Sequence[Worker]) -> CheckView:
        """Every LLM that is to have a worker: where one lost it jobs wait, whatever the others do."""
        standings, served = workers.standings(alive), self._settings.up_serves
        missing = [  # the reason itself is not for everybody
            f"{alias} could not be loaded: /v1/llms and its worker's log say why"
            if standings.get(alias, Standing()).trouble
            else f"no worker has loaded {alias}"
            for alias in served
            if not standings.get(alias, Standing()).is_ready
        ]
        return CheckView(ok=not missing, detail="; ".join(missing) or f"ready: {', '.join(served)}")


def reason(database: Database, error: Unavailable) -> str:
    """What a client may know of a failure, and the log's line about it.

    SQLite's words are harmless. PostgreSQL's name host, user and database: only the log has those.
    """
    log.warning("the database does not answer: %s", error)
    return str(error) if database.dialect == "sqlite" else "it does not answer; the log has the reason"


def _no_database(database: Database, error: Unavailable) -> HealthView:
    return HealthView(checks={"database": CheckView(ok=False, detail=reason(database, error))})

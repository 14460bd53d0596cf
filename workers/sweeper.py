"""Repairs what was lost: workers that fell silent, hints that went astray, times that have come.

Nothing depends on it being quick, and any number of sweepers may run at once:
every repair is a guarded change of state, and rows that another holds are skipped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from config import telemetry
from config.settings import Settings
from models import bulks, counters, endings, idempotency, jobs, retention, workers
from models.base import utcnow
from models.database import Database, Session
from models.queues import oldest_claimable
from workers import presence
from workers.broker import Broker, LiveLog, wake

log = logging.getLogger(__name__)

RARELY_SECONDS = 30.0
"""How often old rows are thrown away and counters folded."""

MOST_ROUNDS = 200
"""Transactions of one kind in one tidying; what is left then waits for the next."""


class Watch:
    """Which workers are silent, by their counters and this process's own monotonic clock.

    Time in which nobody looked says nothing about anybody: after a gap (the
    database was away, this process stood still) every lease begins anew.
    """

    def __init__(
        self, lease_seconds: float, gap_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lease = lease_seconds
        self._gap = gap_seconds
        self._clock = clock
        self._looked = clock()
        self._seen: dict[str, tuple[int, float]] = {}

    def lost(self, beats: dict[str, int]) -> list[str]:
        """Workers whose counter has not moved for the lease time; ``beats`` is what it shows now."""
        now = self._clock()
        if now - self._looked > self._gap:
            self._seen = {}
        self._looked = now
        fresh = {}
        for worker_id, count in beats.items():
            before = self._seen.get(worker_id)
            moved = before is None or before[0] != count
            fresh[worker_id] = (count, now) if before is None or moved else before
        self._seen = fresh
        return [worker_id for worker_id, (_, since) in fresh.items() if now - since >= self._lease]


class Sweeper:
    """One look at everything that may need repair."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        live: LiveLog,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._broker = broker
        self._live = live
        self._settings = settings
        self._clock = clock
        # A lease is seen to run out only by someone who looked several times while it ran.
        self._watch = Watch(settings.worker.lease_seconds, settings.worker.lease_seconds / 3, clock)
        self._hinted: dict[str, float] = {}
        self._tidied_at = clock()

    def sweep(self) -> None:
        """Rescue, move on what is due, hint again; now and then tidy up.

        Raises:
            models.database.Unavailable: the database does not answer; try again later.
        """
        self._rescue()
        self._move_on()
        self._hint_again()
        if self._clock() - self._tidied_at >= RARELY_SECONDS:
            self._tidied_at = self._clock()
            self.tidy()

    def _rescue(self) -> None:
        gone = presence.gone(self._settings.data_dir)
        with self._database.read() as session:
            beats = {worker.id: worker.beats for worker in workers.alive(session)}
            orphaned = workers.orphaned(session)
        ended = [file.name for file in gone if file.name in beats]
        for worker_id in dict.fromkeys([*ended, *self._watch.lost(beats), *orphaned]):
            self._declare_lost(worker_id)
        for file in gone:
            file.unlink(missing_ok=True)

    def _declare_lost(self, worker_id: str) -> None:
        now = utcnow()
        with self._database.write() as session:
            workers.end(session, worker_id, now)
            ended = endings.rescue(session, worker_id, self._settings.currency, now)
            self._wake(session, ended.released)
        log.error("worker %s is lost; %d jobs go on", worker_id, len(ended.released))
        telemetry.sweeps.labels("rescued").inc(len(ended.released))

    def _move_on(self) -> None:
        now = utcnow()
        with self._database.read() as session:
            if not jobs.any_due(session, now):
                return
        with self._database.write() as session:
            ready = jobs.promote_due(session, now)
            released = endings.expire_due(session, now)
            self._wake(session, ready + released)
        telemetry.sweeps.labels("moved_on").inc(len(ready))

    def _hint_again(self) -> None:
        """One hint for each queue that has had claimable rows for too long: the row is the truth."""
        wait = timedelta(seconds=self._settings.worker.rehint_seconds)
        with self._database.read() as session:
            waiting = oldest_claimable(session)
        for llm, (job_id, since) in waiting.items():
            last = self._hinted.get(llm)
            if utcnow() - since < wait or (last is not None and self._clock() - last < wait.total_seconds()):
                continue
            self._hinted[llm] = self._clock()
            with self._database.write() as session:
                wake(self._broker, session, llm, [job_id])
            telemetry.sweeps.labels("hinted").inc()

    def tidy(self) -> None:
        """Fold counters and throw away what is old enough, in small transactions."""
        settings, now = self._settings, utcnow()
        remembered = now - timedelta(hours=settings.requests.idempotency_hours)
        abandoned = now - timedelta(seconds=settings.bulk.abandon_seconds)
        steps: list[Callable[[Session], int]] = [
            counters.compact,
            lambda session: idempotency.prune(session, remembered),
            lambda session: bulks.drop_abandoned(session, abandoned),
        ]
        if settings.retention.jobs_days:
            kept = now - timedelta(days=settings.retention.jobs_days)
            steps.append(lambda session: retention.drop_ended(session, kept))
        for step in steps:
            self._repeat(step)
        with self._database.write() as session:
            workers.prune(session, now - timedelta(days=1))
        self._live.prune(now - timedelta(seconds=settings.live.keep_seconds))

    def _repeat(self, step: Callable[[Session], int]) -> None:
        """One small transaction after the other until nothing is left, others let in between."""
        for _ in range(MOST_ROUNDS):
            with self._database.write() as session:
                if not step(session):
                    return

    def _wake(self, session: Session, job_ids: list[str]) -> None:
        for llm, ids in jobs.by_llm(session, job_ids).items():
            wake(self._broker, session, llm, ids)

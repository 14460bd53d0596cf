"""Repairs what was lost: workers that fell silent, hints that went astray, times that have come.

Nothing depends on it being quick, and any number of sweepers may run at once:
every repair is a guarded change of state, and rows that another holds are skipped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from config import telemetry
from config.settings import Settings
from models import bulks, commands, counters, endings, idempotency, jobs, lanes, workers
from models.base import utcnow
from models.database import Database, Session
from models.queues import oldest_claimable
from workers import presence
from workers.broker import Broker, LiveLog, wake, wake_all
from workers.indexing import Indexer
from workers.pace import Pace
from workers.pruner import Pruner

log = logging.getLogger(__name__)

RARELY_SECONDS = 30.0
"""How often the sweeper begins to throw old rows away and to fold counters."""

TIDY_SECONDS = 0.3
"""How long one sweep tidies at the most, rests between its transactions included; the next one goes on."""

FOLD_ROWS = 5_000, 2_000
"""Deltas that are folded at first and at least at a time: fewer might all be of different counts."""


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
        pace = partial(Pace, database, settings.retention.lock_ms / 1000)
        self._folding, self._forgetting = pace(*FOLD_ROWS), pace()
        self._dropping, self._clearing = pace(), pace()
        self._pruner = Pruner(database, settings, pace())
        self._indexer = Indexer(database, settings.retention.lock_ms / 1000)
        self._tidying: Iterator[None] | None = None
        self._tidied_at = clock()

    def sweep(self) -> None:
        """Rescue, move on what is due, hint again, make jobs findable; now and then tidy up.

        Raises:
            models.database.Unavailable: the database does not answer; try again later.
        """
        self._rescue()
        self._move_on()
        self._hint_again()
        self._is_over(self._indexer.round())
        if self._tidying is None and self._clock() - self._tidied_at >= RARELY_SECONDS:
            self._tidying, self._tidied_at = self._chores(), self._clock()
        if self._tidying is not None and self._is_over(self._tidying):
            self._tidying = None

    def _is_over(self, chores: Iterator[None]) -> bool:
        """Go on with them for a while; whether none is left."""
        until = self._clock() + TIDY_SECONDS
        return all(self._clock() < until for _ in chores)

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
            wake_all(self._broker, session, ended.released + lanes.freed(session, ended.jobs))
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
            wake_all(self._broker, session, ready + released)
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
        """Fold counters and throw away what is old enough, all at once."""
        for _ in self._chores():
            pass

    def _chores(self) -> Iterator[None]:
        """The same step by step: a small transaction each, and none is open in between."""
        settings, now = self._settings, utcnow()
        remembered = now - timedelta(hours=settings.requests.idempotency_hours)
        abandoned = now - timedelta(seconds=settings.bulk.abandon_seconds)
        yesterday = now - timedelta(days=1)
        yield from _repeat(self._folding, counters.compact)
        yield from _repeat(self._forgetting, lambda s, most: idempotency.prune(s, remembered, most))
        yield from _repeat(self._dropping, lambda s, most: bulks.drop_abandoned(s, abandoned, most))
        yield from _repeat(self._clearing, lambda s, most: commands.prune(s, yesterday, most))
        yield from self._pruner.round()
        with self._database.write() as session:
            workers.prune(session, yesterday)
        yield
        self._live.prune(now - timedelta(seconds=settings.live.keep_seconds))


def _repeat(pace: Pace, change: Callable[[Session, int], int]) -> Iterator[None]:
    """Step by step until nothing is left; ``change`` is told how many rows it may take, and says how many."""
    while pace.step(lambda session: change(session, pace.size)):
        yield

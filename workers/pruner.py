"""Deletes ended jobs that are older than their state is kept, and archives them before if that is wished."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timedelta

from config.settings import Settings
from models import archive, retention
from models.base import utcnow
from models.database import Database
from models.retention import Old
from models.states import State
from workers.archive import Archive
from workers.pace import Pace

log = logging.getLogger(__name__)

Stretch = tuple[str, State]
"""The ended jobs of one tenant and state, in the order in which they were submitted."""


class Pruner:
    """Walks through the ended jobs in rounds, each a number of small steps.

    A round looks at each stretch from its front, and goes on for as long as a page
    has something old: jobs end about in the order in which they came, so that is
    where the old ones are. One that came late and ended early can hide behind a
    whole page of such that came early and ended late. So each round also looks at
    one page further on, where the round before stopped, and begins again at the
    end: whatever is due is found after ``jobs in the stretch / retention.PAGE``
    rounds at the latest. What stays costs two pages a round, however much it is.
    """

    def __init__(self, database: Database, settings: Settings, pace: Pace) -> None:
        self._database = database
        self._pace = pace
        kept = settings.retention
        days = {
            State.SUCCEEDED: kept.succeeded_days,
            State.FAILED: kept.failed_days,
            State.CANCELLED: kept.cancelled_days,
            State.EXPIRED: kept.expired_days,
        }
        self._ages = {state: timedelta(days=number) for state, number in days.items() if number}
        self._archive = Archive(settings.data_dir) if kept.archive else None
        self._reached: dict[Stretch, int] = {}

    def round(self) -> Iterator[None]:
        """Once through everything; comes back after each step, with no transaction open."""
        gone = 0
        try:
            for old in self._find():
                gone += self._drop(old) if old else 0
                yield
        except OSError as error:
            log.error("nothing is deleted, for the archive cannot be written: %s", error)
        if gone:
            log.info("%d old jobs were deleted", gone)

    def _find(self) -> Iterator[Sequence[Old]]:
        """What is due, as much at a time as may be deleted at once; nothing after a look in vain."""
        if not self._ages:
            return
        now = utcnow()
        with self._database.read() as session:
            tenants = retention.tenants(session)
        for stretch in ((tenant_id, state) for tenant_id in tenants for state in self._ages):
            before = now - self._ages[stretch[1]]
            reached = yield from self._walk(stretch, before, 0)
            if reached:
                reached = yield from self._walk(stretch, before, max(reached, self._reached.get(stretch, 0)))
            self._reached[stretch] = reached

    def _walk(self, stretch: Stretch, before: datetime, after: int) -> Generator[Sequence[Old], None, int]:
        """Page by page up to one with nothing old; returns where that ended, 0 for the end of the stretch."""
        while True:
            with self._database.read() as session:
                page = retention.look(session, *stretch, before, after)
            yield from self._cut(page.old)
            if not page.old:
                yield ()
            if not page.old or not page.last:
                return page.last
            after = page.last

    def _cut(self, old: Sequence[Old]) -> Iterator[Sequence[Old]]:
        """Stretches of a page that weigh no more than a step may change."""
        first = weight = 0
        for place, job in enumerate(old):
            if place > first and weight + job.weight > self._pace.size:
                yield old[first:place]
                first, weight = place, 0
            weight += job.weight
        if old:
            yield old[first:]

    def _drop(self, old: Sequence[Old]) -> int:
        seqs = [job.seq for job in old]
        if self._archive is not None:
            with self._database.read() as session:
                records = archive.records(session, seqs)
            self._archive.keep(records)
        return self._pace.step(
            lambda session: retention.drop(session, seqs), rows=sum(job.weight for job in old)
        )

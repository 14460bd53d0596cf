"""Makes the documents by which jobs are found: behind the submissions, in small steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from models import documents
from models.database import Database, Session
from models.documents import Draft, Horizon
from workers.pace import Pace

READ = 500
"""Jobs whose texts are read at once."""

WORDS = 2_000, 500
"""Words that are indexed at first and at least in one step."""


class Indexer:
    """Catches up with what was submitted and what has failed.

    Any number of them may be at work: a document that is there is not made again.
    """

    def __init__(self, database: Database, lock_seconds: float) -> None:
        self._database = database
        self._pace = Pace(database, lock_seconds, *WORDS)
        self._seen = Horizon(0)
        self._settled = 0

    def round(self) -> Iterator[None]:
        """Until all is indexed that can be; comes back after each step, with no transaction open.

        Raises:
            models.database.Unavailable: the database does not answer; try again later.
        """
        with self._database.read() as session:
            self._look(session)  # where nobody writes, the next look can tell
        yield from self._repeat(self._pending, documents.store)
        yield from self._repeat(lambda session: documents.stale(session, READ), documents.refresh)

    def _repeat(
        self, read: Callable[[Session], list[Draft]], write: Callable[[Session, list[Draft]], None]
    ) -> Iterator[None]:
        """Texts are read and cut into words before the write lock is asked for."""
        while True:
            with self._database.read() as session:
                made = read(session)
            if not made:
                return
            while made:
                some = self._cut(made)
                self._step(write, some)
                made = made[len(some) :]
                yield

    def _step(self, write: Callable[[Session, list[Draft]], None], some: list[Draft]) -> None:
        def change(session: Session) -> int:
            write(session, some)
            return sum(len(draft.words) for draft in some)

        self._pace.step(change)

    def _cut(self, made: list[Draft]) -> list[Draft]:
        """As many as may be stored in one step, one at the least."""
        words = 0
        for place, draft in enumerate(made):
            words += len(draft.words)
            if place and words > self._pace.size:
                return made[:place]
        return made

    def _pending(self, session: Session) -> list[Draft]:
        """The next jobs, up to the newest behind which no older one can still appear."""
        self._look(session)
        return documents.pending(session, self._settled, READ)

    def _look(self, session: Session) -> None:
        """Learn how far one can see, and whether what was seen before is all there is so far."""
        seen = documents.horizon(session)
        if seen.oldest >= self._seen.following:
            self._settled, self._seen = self._seen.newest, seen

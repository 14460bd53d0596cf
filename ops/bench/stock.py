"""Databases with as many waiting jobs as one likes, stored by the models' own functions.

What waits is mixed: classes, agents that have sent several jobs in a row, tags,
a second tenant, some jobs for later, requests of a few hundred bytes. So are
the jobs that have ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, cycle, islice

import migrations
from config.settings import Settings
from models import documents, tenants
from models.base import utcnow
from models.claims import Claim
from models.database import Database, Session
from models.documents import Draft
from models.relaxed import relaxed
from models.requests import CompletionRequest, Message, Sampling, TextPart
from models.states import Priority, State
from models.submission import NewJob, submit
from ops.bench.hands import LLM, Hands
from ops.lines import load_lines

TENANT, OTHER = tenants.DEFAULT_TENANT, "other"
HOARDER = "hoarder"
"""The agent that holds half of what waits, where one does."""

CHUNK = 1_000
PARTS = 20
"""Into at least so many transactions a stock is divided, so that a small one is mixed as well."""

LATER = timedelta(days=1)
"""When the jobs are due that do not wait to be claimed now."""

TURNS = 10
"""Jobs that an agent has sent one after the other."""

_INSTRUCTION = "Answer with the fields of this line of a log as JSON, and with nothing else."
_MARK = "@@"
_ENDED_AT_ONCE = 500
_FAILED = 10
"""One of so many claims ends badly."""

_PRIORITIES = (Priority.INTERACTIVE, *[Priority.STANDARD] * 6, *[Priority.BACKGROUND] * 3)


def _parts() -> tuple[str, ...]:
    """The JSON of a request, cut where the line stands: to build a million of them would take minutes."""
    turns = (Message(role="system", content=(TextPart(text=_INSTRUCTION),)),
             Message(role="user", content=(TextPart(text=_MARK),)))  # fmt: skip
    return tuple(
        CompletionRequest(messages=turns, sampling=Sampling(max_tokens=16)).model_dump_json().split(_MARK)
    )


@dataclass(eq=False)
class Stock:
    """A database, how many jobs wait in it, and whether one agent holds half of them."""

    database: Database
    settings: Settings
    waiting: int
    hoarded: bool = False
    middle: datetime | None = None
    """When half of it was there."""

    _numbers: Iterator[int] = field(init=False)
    _texts: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = count()
        self._texts = cycle(json.dumps(line.text)[1:-1] for line in load_lines())
        self._head, self._tail = _parts()

    def add(self, more: int) -> None:
        """Store so many waiting jobs, by connections that do not wait for the disk."""
        size = max(1, min(CHUNK, more // PARTS))
        with closing(relaxed(self.database)) as quick:
            for number, first in enumerate(range(0, more, size)):
                tenant = OTHER if number % 10 == 9 else TENANT
                self.store(quick, min(size, more - first), tenant, hoards=self.hoarded and number % 2 == 0)

    def replace(self, taken: Sequence[Claim]) -> None:
        """Store a new job for each that was taken, of the same tenants, and of the hoarder as many.

        None is for later: those that were taken were not, and in the end all that waits would be.
        """
        whose = Counter((claim.tenant_id, claim.agent == HOARDER) for claim in taken)
        with closing(relaxed(self.database)) as quick:
            for (tenant, hoards), size in whose.items():
                self.store(quick, size, tenant, hoards=hoards, later=False)

    def store(
        self, to: Database, size: int, tenant: str = TENANT, *, hoards: bool = False, later: bool = True
    ) -> None:
        """Store so many jobs of a tenant in one transaction, some of them for ``later``."""
        numbers = islice(self._numbers, size)
        new = [self._job(number, tenant, hoards=hoards, later=later) for number in numbers]
        queue = self.settings.queue
        offsets = {
            Priority.INTERACTIVE: queue.offset_interactive,
            Priority.STANDARD: queue.offset_standard,
            Priority.BACKGROUND: queue.offset_background,
        }
        with to.write() as session:
            submit(session, new, offsets, "bench", utcnow())

    def _job(self, number: int, tenant: str, *, hoards: bool, later: bool) -> NewJob:
        agent = f"agent-{number // 50}" if number % 50 < TURNS else None
        text = f"{number} {next(self._texts)}"
        return NewJob(
            tenant_id=tenant,
            llm=LLM,
            request=f"{self._head}{text}{self._tail}",
            estimated_tokens=(len(_INSTRUCTION) + len(text)) // 4 + 16,
            timeout_seconds=3600.0,
            max_attempts=3,
            priority=_PRIORITIES[number // 7 % len(_PRIORITIES)],
            agent=HOARDER if hoards else agent,
            run_at=utcnow() + LATER if number % 50 == 49 and later and not hoards else None,
            metadata={"number": str(number)},
            tags=tags(number),
        )


def tags(number: int) -> tuple[str, ...]:
    """The tags of the job with a number: many, some, and very few share them."""
    rare = ("rare",) if number % 10_000 == 17 else ()
    return ("nightly", f"project-{number % 40}", *rare) if number % 4 == 0 else rare


def make(database: Database, settings: Settings, waiting: int, ended: int, *, hoarded: bool = False) -> Stock:
    """Migrate an empty database and fill it, first with jobs that end."""
    migrations.upgrade(database)
    with database.write() as session:
        for tenant in (TENANT, OTHER):
            tenants.ensure(session, tenant, utcnow())
    past = Stock(database, settings, 0)
    past.add(ended)
    _end(past)
    stock = Stock(database, settings, waiting, hoarded)
    stock.add(waiting // 2)
    stock.middle = utcnow()
    stock.add(waiting - waiting // 2)
    if not hoarded:  # in such a stock nobody looks for texts, and a million documents take their time
        _index(database)
    settle(database)
    return stock


def _end(past: Stock) -> None:
    """End all jobs that can be claimed, until agents have none left."""
    with closing(relaxed(past.database)) as quick:
        hands = Hands(quick, past.settings)
        for turn in count():
            taken = hands.claim(_ENDED_AT_ONCE)
            if not taken:
                break
            hands.finish(taken, State.SUCCEEDED if turn % _FAILED else State.FAILED)
        hands.leave()


def _index(database: Database) -> None:
    """Make all documents of the text search, as the errands worker does, but without a rest."""
    steps = (
        (
            lambda session: documents.pending(session, documents.horizon(session).newest, CHUNK),
            documents.store,
        ),
        (lambda session: documents.stale(session, CHUNK), documents.refresh),
    )
    with closing(relaxed(database)) as quick:
        for read, write in steps:
            while made := _read(quick, read):
                with quick.write() as session:
                    write(session, made)


def _read(database: Database, read: Callable[[Session], list[Draft]]) -> list[Draft]:
    with database.read() as session:
        return read(session)


def settle(database: Database) -> None:
    """Bring the planner's statistics up to date, as autovacuum and a long life do."""
    if database.dialect == "sqlite":
        with database.write() as session:
            session.connection().exec_driver_sql("ANALYZE")
        return
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")

"""The messages of the embedded Dramatiq broker: their table and all of its SQL.

One column decides who may take a message: ``available_at``, in milliseconds of
the database's own clock. A new message is available at once, a delayed one
later, a taken one again when its lease has run out. So one index answers every
question, and what a killed consumer held comes back by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Index,
    Integer,
    LargeBinary,
    String,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, Serial, rows_into
from models.changes import Changes
from models.clock import DatabaseMs
from models.database import Database
from models.rows import later

DEAD = ".XQ"
"""What the queue of rejected messages adds to the name, as Dramatiq's Redis broker has it."""

DEAD_KEPT_MS = 7 * 86_400_000
"""How long a rejected message is kept for whoever wants to look at it."""

DatabaseError = SQLAlchemyError
"""What these functions raise when the database cannot be used."""


class BrokerMessage(Base):
    """A message on its way. ``owner`` is the consumer that holds it, until ``available_at``.

    ``body`` is what Dramatiq encoded; ``deliveries`` counts how often it was taken.
    """

    __tablename__ = "broker_messages"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    queue: Mapped[str] = mapped_column(String(128))
    available_at: Mapped[int] = mapped_column(BigInteger)
    owner: Mapped[str | None] = mapped_column(String(40))
    deliveries: Mapped[int] = mapped_column(Integer, default=0)
    body: Mapped[bytes] = mapped_column(LargeBinary)


Index("ix_broker_messages_due", BrokerMessage.queue, BrokerMessage.available_at, BrokerMessage.id)


@dataclass(frozen=True)
class Delivery:
    """A message handed to a consumer; ``count`` is above one when it was handed out before."""

    id: int
    body: bytes
    count: int


_PUT = rows_into(BrokerMessage).values(
    queue=bindparam("queue"),
    body=bindparam("body"),
    available_at=DatabaseMs() + bindparam("delay_ms", type_=BigInteger),
    deliveries=0,
)
"""Built once, for every submission sends a hint."""


def put(session: Session, queue: str, body: bytes, *, delay_ms: int = 0) -> None:
    """Add a message within the caller's transaction; it exists when that is committed."""
    later(session, _PUT, [{"queue": queue, "body": body, "delay_ms": delay_ms}])


def claim(session: Session, queue: str, owner: str, limit: int, lease_ms: int) -> list[Delivery]:
    """Lease up to ``limit`` available messages to ``owner``, the longest waiting first.

    The choice is a CTE, which PostgreSQL runs once: a plain subquery with a
    limit it may run once for each row, and take too many.
    """
    due = (
        select(BrokerMessage.id)
        .where(BrokerMessage.queue == queue, BrokerMessage.available_at <= DatabaseMs())
        .order_by(BrokerMessage.available_at, BrokerMessage.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    taken = session.execute(
        update(BrokerMessage)
        .where(BrokerMessage.id.in_(select(due.c.id)))
        .values(owner=owner, available_at=DatabaseMs() + lease_ms, deliveries=BrokerMessage.deliveries + 1)
        .returning(BrokerMessage.id, BrokerMessage.body, BrokerMessage.deliveries)
    )
    return [Delivery(*row) for row in sorted(taken)]


def acknowledge(session: Session, owner: str, ids: Sequence[int]) -> None:
    """Delete messages that are done, as far as ``owner`` still holds them."""
    session.execute(delete(BrokerMessage).where(BrokerMessage.id.in_(ids), BrokerMessage.owner == owner))


def renew(session: Session, owner: str, ids: Sequence[int], lease_ms: int) -> None:
    """Prolong the leases of messages that ``owner`` still holds."""
    _change(session, owner, ids, available_at=DatabaseMs() + lease_ms)


def release(session: Session, owner: str, ids: Sequence[int]) -> None:
    """Make messages that ``owner`` holds available to everybody again."""
    _change(session, owner, ids, owner=None, available_at=DatabaseMs())


def reject(session: Session, owner: str, queue: str, message_id: int) -> None:
    """Lay a message aside in the queue of the rejected, and drop what lay there too long."""
    dead = queue + DEAD
    _change(session, owner, [message_id], queue=dead, owner=None, available_at=DatabaseMs() + DEAD_KEPT_MS)
    session.execute(
        delete(BrokerMessage).where(BrokerMessage.queue == dead, BrokerMessage.available_at <= DatabaseMs())
    )


def _change(session: Session, holder: str, ids: Sequence[int], **values: object) -> None:
    mine = (BrokerMessage.id.in_(ids), BrokerMessage.owner == holder)
    session.execute(update(BrokerMessage).where(*mine).values(**values))


def flush(session: Session, queue: str) -> None:
    """Delete all messages of a queue: waiting, delayed, taken and rejected."""
    session.execute(
        delete(BrokerMessage).where(or_(BrokerMessage.queue == queue, BrokerMessage.queue == queue + DEAD))
    )


def pending(session: Session, queue: str) -> int:
    """How many messages of a queue are not yet acknowledged, delayed and taken ones included."""
    query = select(func.count()).select_from(BrokerMessage).where(BrokerMessage.queue == queue)
    return session.scalar(query) or 0


class Lookout:
    """Tells a consumer whether its queue has something due, without taking any lock.

    It remembers when the next message falls due; as long as that is ahead and
    nobody has changed the database, the answer costs no query.
    """

    def __init__(self, database: Database, queue: str) -> None:
        self._database = database
        self._changes = Changes(database)
        self._wait = (
            select(BrokerMessage.available_at - DatabaseMs())
            .where(BrokerMessage.queue == queue)
            .order_by(BrokerMessage.available_at)
            .limit(1)
        )
        self._due: float | None = None
        self._stale = True

    @property
    def is_cheap(self) -> bool:
        """Whether looking many times a second costs next to nothing."""
        return self._changes.are_counted

    def is_due(self) -> bool:
        """Whether a claim would find a message now, as far as can be seen."""
        self._stale |= self._changes.look()
        if self._stale or self._has_come():
            with self._database.read() as session:
                wait_ms = session.scalar(self._wait)
            self._due = None if wait_ms is None else time.monotonic() + wait_ms / 1000
            self._stale = False
        return self._has_come()

    def _has_come(self) -> bool:
        return self._due is not None and self._due <= time.monotonic()

    def close(self) -> None:
        """Give up the connection that is kept for looking."""
        self._changes.close()

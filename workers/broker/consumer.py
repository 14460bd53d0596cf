"""The receiving end of the embedded broker."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable

from dramatiq import Consumer, Message, MessageProxy
from dramatiq.errors import DecodeError

from models import messages
from models.database import Database
from workers.broker.doorbell import Doorbell

GLANCE_SECONDS = 0.01
"""How often a consumer looks where looking takes microseconds (SQLite)."""

TROUBLE_SECONDS = 1.0
"""How long a consumer leaves a database alone that failed it."""


log = logging.getLogger(__name__)


class HeldMessage(MessageProxy):
    """A message under lease, and the row that it came from."""

    def __init__(self, message: Message[object], row: int) -> None:
        super().__init__(message)
        self.row = row


class SqlConsumer(Consumer):
    """Takes messages of one queue from the database, under leases that it renews.

    Everything it has to write goes into one transaction: the acknowledgements
    since the last one, leases to renew, messages to claim. An acknowledgement
    therefore waits up to one poll; should the process die before, the message
    is delivered a second time, as with any broker that delivers at least once.
    """

    def __init__(
        self,
        database: Database,
        queue_name: str,
        *,
        prefetch: int,
        timeout_ms: int,
        poll_ms: int,
        lease_seconds: float,
        doorbell: Doorbell,
    ) -> None:
        self.owner = uuid.uuid4().hex
        self.queue_name = queue_name
        self._database = database
        self._prefetch = prefetch
        self._timeout = timeout_ms / 1000
        self._poll = poll_ms / 1000
        self._lease = lease_seconds
        self._doorbell = doorbell
        self._ear = doorbell.listen()
        self._lookout = messages.Lookout(database, queue_name)
        self._glance = min(self._poll, GLANCE_SECONDS) if self._lookout.is_cheap else self._poll
        self._guard = threading.Lock()  # acknowledgements come from the worker's threads
        self._ready: deque[HeldMessage] = deque()
        self._held: set[int] = set()
        self._done: list[int] = []
        self._quiet_until = self._flush_at = self._renew_at = 0.0
        self._closed = False

    def __next__(self) -> MessageProxy | None:
        """The next message, or None when none came within the timeout."""
        deadline = time.monotonic() + self._timeout
        while not self._ready:
            self._exchange()
            if not self._ready and not self._rest(deadline):
                return None
        return self._ready.popleft()

    def _rest(self, deadline: float) -> bool:
        """Wait for the bell, the next glance or the deadline; False when that is past."""
        now = time.monotonic()
        if now >= deadline:
            return False
        pause = max(self._glance, self._quiet_until - now)
        if self._ear.wait(min(pause, deadline - now)):
            self._ear.clear()
        return True

    def _exchange(self) -> None:
        """Write and fetch what is due, unless the database is to be left alone for now."""
        now = time.monotonic()
        if now < self._quiet_until:
            return
        try:
            room = self._prefetch - len(self._held)
            wanted = room if room > 0 and self._lookout.is_due() else 0
            if wanted or (self._done and now >= self._flush_at) or (self._held and now >= self._renew_at):
                self._trade(wanted)
        except messages.DatabaseError:
            log.warning("The database failed the queue %r.", self.queue_name, exc_info=True)
            self._quiet_until = now + TROUBLE_SECONDS

    def _trade(self, wanted: int) -> None:
        """One transaction: acknowledge, renew, claim up to ``wanted`` messages."""
        with self._guard:
            done, held = self._done.copy(), list(self._held)
        now, lease_ms = time.monotonic(), int(self._lease * 1000)
        taken: list[messages.Delivery] = []
        with self._database.write() as session:
            if done:
                messages.acknowledge(session, self.owner, done)
            if held and now >= self._renew_at:
                messages.renew(session, self.owner, held, lease_ms)
            if wanted:
                taken = messages.claim(session, self.queue_name, self.owner, wanted, lease_ms)
        if now >= self._renew_at:
            self._renew_at = now + self._lease / 3
        with self._guard:
            del self._done[: len(done)]
            self._held.update(delivery.id for delivery in taken)
        if len(taken) < wanted:  # drained: let hints gather, so that a busy sender causes few claims
            self._quiet_until = now + self._poll / 2
        for delivery in taken:
            self._unpack(delivery)

    def _unpack(self, delivery: messages.Delivery) -> None:
        if delivery.count > 1:
            log.warning("Message %d is delivered the %d. time.", delivery.id, delivery.count)
        try:
            self._ready.append(HeldMessage(Message.decode(delivery.body), delivery.id))
        except DecodeError:
            log.exception("Message %d cannot be read and is laid aside.", delivery.id)
            self._reject(delivery.id)

    def ack(self, message: MessageProxy) -> None:
        """Note that a message is done; written with the next exchange."""
        row = row_of(message)
        with self._guard:
            if not self._done:
                self._flush_at = time.monotonic() + self._poll
            was_full = len(self._held) >= self._prefetch
            self._held.discard(row)
            self._done.append(row)
        if was_full:
            self._ear.set()
        if self._closed:
            self._trade(0)

    def nack(self, message: MessageProxy) -> None:
        """Lay a message aside in the queue of the rejected."""
        self._reject(row_of(message))

    def _reject(self, row: int) -> None:
        with self._database.write() as session:
            messages.reject(session, self.owner, self.queue_name, row)
        with self._guard:
            self._held.discard(row)

    def requeue(self, messages_: Iterable[MessageProxy]) -> None:
        """Give messages back at once, for any consumer to take."""
        rows = [row_of(message) for message in messages_]
        if not rows:
            return
        with self._database.write() as session:
            messages.release(session, self.owner, rows)
        with self._guard:
            self._held.difference_update(rows)
        self._doorbell.ring()

    def close(self) -> None:
        """Write the last acknowledgements and give back what nobody has begun with."""
        self._closed = True
        self._doorbell.forget(self._ear)
        try:
            if self._done:
                self._trade(0)
            self.requeue(self._ready)
        except messages.DatabaseError:
            log.warning("The leases of queue %r are left to run out.", self.queue_name, exc_info=True)
        self._ready.clear()
        self._lookout.close()


def row_of(message: MessageProxy) -> int:
    """The row of a message that this broker delivered.

    Raises:
        TypeError: another broker delivered it.
    """
    if not isinstance(message, HeldMessage):
        raise TypeError(f"{message!r} was not delivered by the embedded broker")
    return message.row

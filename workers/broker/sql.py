"""The embedded broker: Dramatiq over the database that holds the jobs."""

from __future__ import annotations

import threading
import time
from typing import Any

from dramatiq import Broker, Consumer, Message, Middleware
from dramatiq.errors import QueueJoinTimeout, QueueNotFound

from models import messages
from models.database import Database
from models.hooks import Session, after_commit
from models.relaxed import relaxed
from workers.broker.consumer import SqlConsumer
from workers.broker.doorbell import Doorbell

JOIN_SECONDS = 0.05
"""How often :meth:`SqlBroker.join` looks."""


class SqlBroker(Broker):
    """A Dramatiq broker whose messages are rows, sent within the caller's own transaction.

    Delays and leases are kept in the row too, so nothing waits in a process's
    memory and there are no separate delay queues. Priorities of actors order
    only what one worker holds, as with Dramatiq's other brokers. A sent message
    survives what its transaction survives; leases and acknowledgements may be
    undone by a power cut, after which messages are delivered twice.
    """

    def __init__(
        self,
        database: Database,
        *,
        poll_ms: int = 50,
        lease_seconds: float = 30,
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(middleware=middleware or [])
        self.database = database
        self._leases: Database | None = None
        self._guard = threading.Lock()
        self.poll_ms = poll_ms
        self.lease_seconds = lease_seconds
        self.queues: set[str] = set()
        self._doorbell = Doorbell()

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; a second time changes nothing."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """The names of all queues declared so far."""
        return self.queues.copy()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer that holds up to ``prefetch`` messages and waits ``timeout`` ms for one.

        Raises:
            QueueNotFound: the queue was never declared.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's errors are not annotated
        with self._guard:
            if self._leases is None:  # opened by those who receive, not by those who only send
                self._leases = relaxed(self.database)
        return SqlConsumer(
            self._leases,
            queue_name,
            prefetch=prefetch,
            timeout_ms=timeout,
            poll_ms=self.poll_ms,
            lease_seconds=self.lease_seconds,
            doorbell=self._doorbell,
        )

    def enqueue(
        self, message: Message[Any], *, delay: int | None = None, session: Session | None = None
    ) -> Message[Any]:
        """Send a message, ``delay`` ms from now if one is given.

        With a ``session`` it belongs to that session's transaction: it is sent
        when that is committed, and never if it is rolled back.
        """
        self.emit_before("enqueue", message, delay)
        if session is None:
            with self.database.write() as own:
                self._put(own, message, delay)
        else:
            self._put(session, message, delay)
        self.emit_after("enqueue", message, delay)
        return message

    def _put(self, session: Session, message: Message[Any], delay: int | None) -> None:
        messages.put(session, message.queue_name, message.encode(), delay_ms=delay or 0)
        after_commit(session, self._doorbell.ring)

    def close(self) -> None:
        """Close the connections that are the broker's own; consumers are closed before."""
        with self._guard:
            if self._leases is not None:
                self._leases.close()

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue."""
        with self.database.write() as session:
            messages.flush(session, queue_name)

    def flush_all(self) -> None:
        """Drop all messages of all declared queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until every message of a queue is acknowledged; for tests.

        Raises:
            QueueJoinTimeout: that took longer than ``timeout`` ms.
        """
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while self._pending(queue_name):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # as above
            time.sleep(JOIN_SECONDS)

    def _pending(self, queue_name: str) -> int:
        with self.database.read() as session:
            return messages.pending(session, queue_name)

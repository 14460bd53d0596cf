"""A place where messages are kept, and the processes that meet there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from dramatiq import Consumer, Message, MessageProxy
from sqlalchemy import Engine, event

from config.settings import Broker as BrokerSettings
from config.settings import Settings
from models.database import Database
from workers.broker import Broker, Worker, make_broker, make_worker, register_drain
from workers.broker.hints import hint_queue

QUEUE = hint_queue("pico")

LEASE_SECONDS = 0.5
"""For tests that wait for a lease to run out."""

PATIENCE_SECONDS = 20
"""How long to wait for what must happen, on a machine that does much else."""


@dataclass
class Place:
    """Brokers over one store, each with connections of its own, as in different processes."""

    settings: Settings
    database_url: str
    _stack: ExitStack = field(default_factory=ExitStack)

    def database(self) -> Database:
        """Connections of one process to the database."""
        database = Database.connect(self.database_url)
        self._stack.callback(database.close)
        return database

    def broker(self, database: Database | None = None) -> Broker:
        """The broker of one process."""
        broker = make_broker(self.settings, database or self.database())
        self._stack.callback(broker.close)
        return broker

    def consumer(self, *, prefetch: int = 10, broker: Broker | None = None) -> Consumer:
        """The consumer of one process, which waits shortly for a message."""
        consumer = (broker or self.broker()).consume(QUEUE, prefetch=prefetch, timeout=20)
        self._stack.callback(consumer.close)
        return consumer

    def worker(self, broker: Broker, handler: Callable[[list[str]], None]) -> Worker:
        """A started worker that hands hints to ``handler``."""
        register_drain(broker, handler)
        worker = make_worker(broker, "pico")
        worker.start()
        self._stack.callback(worker.stop, timeout=2000)
        return worker

    def close(self) -> None:
        """Stop everything, the youngest first."""
        self._stack.close()

    def lease_for(self, seconds: float) -> None:
        """Give the brokers made from now on such leases."""
        broker = self.settings.broker.model_copy(update={"lease_seconds": seconds})
        self.settings = self.settings.model_copy(update={"broker": broker})


def settings_of(broker: BrokerSettings) -> Settings:
    """Settings with a broker that polls often and leases for longer than any test takes."""
    return Settings(broker=broker.model_copy(update={"lease_seconds": 300, "poll_ms": 20}))


def hint(broker: Broker, *ids: str) -> Message[None]:
    """A hint for some ids, not yet sent."""
    return broker.get_actor("drain").message("pico", list(ids))


def receive(consumer: Consumer, count: int, seconds: float = PATIENCE_SECONDS) -> list[MessageProxy]:
    """Messages until there are ``count`` or the time is over."""
    found: list[MessageProxy] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        if (message := next(consumer)) is not None:
            found.append(message)
    return found


def ids_of(messages: list[MessageProxy]) -> list[str]:
    """The first id in each message."""
    return [message.args[1][0] for message in messages]


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that this process sends to any database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether something became true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True

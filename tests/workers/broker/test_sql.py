"""What only the embedded broker does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from dramatiq import Message, MessageProxy
from dramatiq.errors import QueueNotFound
from sqlalchemy import func, select, text, update

from config.settings import Broker as BrokerSettings
from migrations.metadata import metadata
from models import messages
from models.database import Database
from models.messages import BrokerMessage
from tests.workers.broker.place import Place, hint, ids_of, receive, settings_of, statements, wait_until
from workers.broker import consumer as consumer_module
from workers.broker.hints import hint_queue
from workers.broker.sql import SqlBroker

QUEUE = hint_queue("pico")


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    """A database with empty tables."""
    place = Place(settings_of(BrokerSettings()), database_url)
    metadata.create_all(place.database().engine)
    yield place
    place.close()


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Place]:
    """A SQLite file with empty tables."""
    place = Place(settings_of(BrokerSettings()), sqlite_url)
    metadata.create_all(place.database().engine)
    yield place
    place.close()


def rows(database: Database, queue: str) -> int:
    """How many messages of a queue there are."""
    with database.read() as session:
        return session.scalar(select(func.count()).where(BrokerMessage.queue == queue)) or 0


def test_an_idle_consumer_runs_no_query_on_sqlite(lite: Place) -> None:
    """While nobody changes the file, waiting costs not one statement."""
    consumer = lite.consumer()
    assert next(consumer) is None
    with statements() as sent:
        assert receive(consumer, 1, seconds=0.2) == []
    assert sent == []


def test_an_idle_consumer_takes_no_write_lock(lite: Place) -> None:
    """A consumer with nothing to fetch is not held up by somebody who holds the write lock."""
    consumer = lite.consumer()
    with lite.database().write() as session:
        session.execute(text("DELETE FROM tenants"))
        start = time.monotonic()
        for _ in range(3):
            assert next(consumer) is None
        assert time.monotonic() - start < 5


def test_a_message_of_the_same_process_waits_for_no_poll(place: Place) -> None:
    """The doorbell wakes a consumer that would have slept for long."""
    database = place.database()
    broker = SqlBroker(database, poll_ms=5000)
    broker.declare_queue(QUEUE)
    consumer = broker.consume(QUEUE, prefetch=2, timeout=5000)
    assert isinstance(consumer, consumer_module.SqlConsumer)
    consumer._glance = 5.0  # even where looking is cheap
    message = Message[None](queue_name=QUEUE, actor_name="drain", args=(), kwargs={}, options={})
    threading.Timer(0.1, broker.enqueue, [message]).start()
    start = time.monotonic()
    assert next(consumer) == message
    assert time.monotonic() - start < 4
    consumer.close()
    broker.close()


def test_delays_survive_the_process(place: Place) -> None:
    """A delayed message is a row: whoever comes later gets it in its time."""
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"), delay=200)
    broker.close()
    later = place.consumer()
    assert receive(later, 1, seconds=0.05) == []
    assert ids_of(receive(later, 1)) == ["job_1"]


def test_what_cannot_be_read_is_laid_aside(place: Place) -> None:
    """A body that Dramatiq cannot decode goes to the rejected, and the next message is delivered."""
    database = place.database()
    with database.write() as session:
        messages.put(session, QUEUE, b"\xff no message")
    broker = place.broker(database)
    broker.enqueue(hint(broker, "job_1"))
    assert ids_of(receive(place.consumer(broker=broker), 1)) == ["job_1"]
    assert rows(database, QUEUE + messages.DEAD) == 1


def test_the_rejected_are_kept_for_a_time(place: Place) -> None:
    """A rejected message is never delivered, and dropped by a later rejection once it is old."""
    database = place.database()
    broker = place.broker(database)
    consumer = place.consumer(broker=broker)
    for name in ("job_1", "job_2"):
        broker.enqueue(hint(broker, name))
        (message,) = receive(consumer, 1)
        consumer.nack(message)
        assert rows(database, QUEUE + messages.DEAD) == 1
        with database.write() as session:  # its time is over
            session.execute(update(BrokerMessage).values(available_at=1))
    assert receive(consumer, 1, seconds=0.1) == []
    broker.flush(QUEUE)
    assert rows(database, QUEUE + messages.DEAD) == 0


def test_a_consumer_outlives_trouble_of_the_database(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database fails, the consumer says so, leaves it alone for a while and goes on."""
    monkeypatch.setattr(consumer_module, "TROUBLE_SECONDS", 0.05)
    database = place.database()
    broker = place.broker(database)
    consumer = place.consumer()
    with database.write() as session:
        session.execute(text("ALTER TABLE broker_messages RENAME TO elsewhere"))
    with caplog.at_level(logging.WARNING):
        assert receive(consumer, 1, seconds=0.2) == []
    assert "failed the queue" in caplog.text
    with database.write() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO broker_messages"))
    broker.enqueue(hint(broker, "job_1"))
    assert ids_of(receive(consumer, 1)) == ["job_1"]


def test_closing_writes_and_gives_back(place: Place) -> None:
    """A closed consumer has acknowledged what was done and gives back what was never handed out."""
    database = place.database()
    broker = place.broker(database)
    for n in range(3):
        broker.enqueue(hint(broker, f"job_{n}"))
    consumer = place.consumer(broker=broker)
    (first,) = receive(consumer, 1)
    consumer.ack(first)
    consumer.close()
    assert rows(database, QUEUE) == 2
    assert sorted(ids_of(receive(place.consumer(), 2))) == ["job_1", "job_2"]


def test_an_acknowledgement_after_closing_is_written(place: Place) -> None:
    """A thread that ends after its consumer was closed still acknowledges."""
    database = place.database()
    broker = place.broker(database)
    broker.enqueue(hint(broker, "job_1"))
    consumer = place.consumer(broker=broker)
    (message,) = receive(consumer, 1)
    consumer.close()
    consumer.ack(message)
    assert rows(database, QUEUE) == 0


def test_acknowledgements_are_written_within_a_poll(place: Place) -> None:
    """An idle consumer does not sit on acknowledgements."""
    database = place.database()
    broker = place.broker(database)
    broker.enqueue(hint(broker, "job_1"))
    consumer = place.consumer(broker=broker)
    (message,) = receive(consumer, 1)
    consumer.ack(message)
    assert wait_until(lambda: next(consumer) is None and rows(database, QUEUE) == 0)


def test_a_claim_takes_no_more_than_its_limit(place: Place) -> None:
    """A claim is exact, and gives the oldest first."""
    database = place.database()
    with database.write() as session:
        for n in range(50):
            messages.put(session, QUEUE, str(n).encode())
    with database.write() as session:
        taken = messages.claim(session, QUEUE, "me", 7, 1000)
    assert [delivery.body for delivery in taken] == [str(n).encode() for n in range(7)]
    assert {delivery.count for delivery in taken} == {1}


def test_only_known_queues_are_consumed(lite: Place) -> None:
    """Consuming a queue that was never declared is an error."""
    with pytest.raises(QueueNotFound):
        lite.broker().consume("unheard_of")


def test_messages_of_other_brokers_are_refused(lite: Place) -> None:
    """A message that the embedded broker did not deliver cannot be acknowledged there."""
    broker = lite.broker()
    with pytest.raises(TypeError, match="not delivered by the embedded broker"):
        lite.consumer().ack(MessageProxy(hint(broker, "job_1")))

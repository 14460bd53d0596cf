"""What every broker does, embedded (SQLite, PostgreSQL) or Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dramatiq import Message
from dramatiq.errors import QueueJoinTimeout

from config.settings import Broker as BrokerSettings
from migrations.metadata import metadata
from tests.workers.broker.place import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    Place,
    hint,
    ids_of,
    receive,
    settings_of,
    statements,
    wait_until,
)
from workers.broker import wake
from workers.broker.hints import MOST_IDS, hint_queue

QUEUE = hint_queue("pico")

PROJECT = Path(__file__).parents[2]

GONE = LEASE_SECONDS * 1.2
"""Long enough for a lease to run out."""

PATIENCE_MS = int(PATIENCE_SECONDS * 1000)


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty place for messages: SQLite, PostgreSQL, or Redis beside SQLite."""
    url = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")
    broker = BrokerSettings()
    if request.param == "redis":
        redis_url, namespace = (request.getfixturevalue(f"redis_{name}") for name in ("url", "namespace"))
        broker = BrokerSettings(kind="redis", redis_url=redis_url, namespace=namespace)
    place = Place(settings_of(broker), url)
    metadata.create_all(place.database().engine)
    yield place
    place.close()


def test_a_message_is_received_once_and_gone_when_acknowledged(place: Place) -> None:
    """What is sent is received by one consumer, and nothing of it is left after its acknowledgement."""
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    consumer = place.consumer()
    (message,) = receive(consumer, 1)
    assert (message.actor_name, message.args) == ("drain", ("pico", ["job_1"]))
    consumer.ack(message)
    assert receive(consumer, 1, seconds=0.1) == []
    broker.join(QUEUE, timeout=PATIENCE_MS)


def test_messages_come_in_the_order_of_sending(place: Place) -> None:
    """One consumer gets messages in the order in which they were sent."""
    broker = place.broker()
    sent = [f"job_{n}" for n in range(20)]
    for name in sent:
        broker.enqueue(hint(broker, name))
    assert ids_of(receive(place.consumer(prefetch=7), 7)) == sent[:7]
    assert ids_of(receive(place.consumer(prefetch=20), 13)) == sent[7:]


def test_a_consumer_holds_no_more_than_its_prefetch(place: Place) -> None:
    """More messages come only when held ones are acknowledged."""
    broker = place.broker()
    for n in range(5):
        broker.enqueue(hint(broker, f"job_{n}"))
    consumer = place.consumer(prefetch=2)
    held = receive(consumer, 2)
    assert receive(consumer, 1, seconds=0.1) == []
    for message in held:
        consumer.ack(message)
    assert len(receive(consumer, 2)) == 2


def test_consumers_never_share_a_message(place: Place) -> None:
    """Several consumers at once divide the messages among them."""
    broker = place.broker()
    sent = {f"job_{n}" for n in range(60)}
    for name in sent:
        broker.enqueue(hint(broker, name))
    found: list[str] = []

    def consume() -> None:
        consumer = place.consumer(prefetch=4)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < len(sent) and time.monotonic() < deadline:
            if (message := next(consumer)) is not None:
                found.extend(ids_of([message]))
                consumer.ack(message)

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(sent)


def test_a_dead_consumers_messages_come_back(place: Place) -> None:
    """What a consumer held when it fell silent is delivered to another, after the lease and not earlier."""
    place.lease_for(LEASE_SECONDS)
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    start = time.monotonic()
    assert len(receive(place.consumer(), 1)) == 1  # and is never heard of again
    assert ids_of(receive(place.consumer(), 1)) == ["job_1"]
    assert time.monotonic() - start >= LEASE_SECONDS


@pytest.mark.slow
def test_a_living_consumer_keeps_what_it_holds(place: Place) -> None:
    """A message that is handled for longer than the lease is not given to others meanwhile."""
    place.lease_for(2)
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    busy, other = place.consumer(), place.consumer()
    assert len(receive(busy, 1)) == 1
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert next(busy) is None
        assert next(other) is None


def test_acknowledging_twice_or_too_late_is_harmless(place: Place) -> None:
    """A second acknowledgement changes nothing, nor does one whose lease another consumer has now."""
    place.lease_for(LEASE_SECONDS)
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    first, second, third = (place.consumer() for _ in range(3))
    (late,) = receive(first, 1)
    assert len(receive(second, 1)) == 1  # and falls silent in its turn
    first.ack(late)
    first.close()
    (message,) = receive(third, 1)
    assert ids_of([message]) == ["job_1"]
    third.ack(message)
    third.ack(message)
    third.close()
    broker.enqueue(hint(broker, "job_2"))
    assert ids_of(receive(place.consumer(), 1)) == ["job_2"]


def test_a_returned_message_is_there_for_others_at_once(place: Place) -> None:
    """What a consumer gives back does not wait for its lease to end."""
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    consumer = place.consumer()
    held = receive(consumer, 1)
    consumer.requeue(held)
    assert ids_of(receive(place.consumer(), 1)) == ["job_1"]


def test_a_delayed_message_comes_in_its_time(place: Place) -> None:
    """A delay is kept to."""
    broker = place.broker()
    came: list[float] = []
    place.worker(place.broker(), lambda _ids: came.append(time.monotonic()))
    start = time.monotonic()
    broker.enqueue(hint(broker, "job_1"), delay=300)
    assert wait_until(lambda: bool(came))
    assert came[0] - start >= 0.29


def test_flushing_drops_everything(place: Place) -> None:
    """A flushed queue gives nothing, delayed messages included."""
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    broker.enqueue(hint(broker, "job_2"), delay=50)
    broker.flush_all()
    broker.join(QUEUE, timeout=PATIENCE_MS)
    assert receive(place.consumer(), 1, seconds=0.2) == []


def test_joining_waits_for_the_last_acknowledgement(place: Place) -> None:
    """A join ends when all is acknowledged, and gives up after its timeout."""
    broker = place.broker()
    broker.enqueue(hint(broker, "job_1"))
    with pytest.raises(QueueJoinTimeout):
        broker.join(QUEUE, timeout=100)
    place.worker(broker, lambda _ids: None)
    broker.join(QUEUE, timeout=PATIENCE_MS)


def test_a_message_for_an_unknown_actor_is_laid_aside(place: Place) -> None:
    """A worker rejects what it has no actor for, and goes on with the next message."""
    broker = place.broker()
    broker.enqueue(Message(queue_name=QUEUE, actor_name="stranger", args=(), kwargs={}, options={}))
    broker.enqueue(hint(broker, "job_1"))
    handled: list[str] = []
    place.worker(broker, handled.extend)
    broker.join(QUEUE, timeout=PATIENCE_MS)
    assert handled == ["job_1"]


def test_a_handler_that_raises_loses_its_hint_only(place: Place) -> None:
    """An error in the handler is logged; the hint is done with, and the next one is handled."""
    broker = place.broker()
    handled: list[str] = []

    def handler(ids: list[str]) -> None:
        handled.extend(ids)
        if ids == ["job_1"]:
            raise RuntimeError("a handler failed")

    place.worker(broker, handler)
    for name in ("job_1", "job_2"):
        broker.enqueue(hint(broker, name))
    broker.join(QUEUE, timeout=PATIENCE_MS)
    assert sorted(handled) == ["job_1", "job_2"]


def test_a_stopped_worker_gives_back_what_it_did_not_begin(place: Place) -> None:
    """What waits in a worker's memory when it stops is there for others at once."""
    broker = place.broker()
    begun: list[str] = []
    gate = threading.Event()

    def handler(ids: list[str]) -> None:
        begun.extend(ids)
        gate.wait(PATIENCE_SECONDS)

    worker = place.worker(broker, handler)
    sent = [f"job_{n}" for n in range(6)]
    for name in sent:
        broker.enqueue(hint(broker, name))
    assert wait_until(lambda: len(begun) == 2)
    threading.Timer(0.05, gate.set).start()
    worker.stop(timeout=PATIENCE_MS)
    others = ids_of(receive(place.consumer(), 4))
    assert sorted(begun + others) == sent


def test_a_hint_is_sent_by_the_commit(place: Place) -> None:
    """A hint exists from the commit of its transaction on, not earlier; a rollback sends nothing."""
    database = place.database()
    broker, consumer = place.broker(database), place.consumer()
    with database.write() as session:
        wake(broker, session, "pico", ["job_1"])
        assert receive(consumer, 1, seconds=0.1) == []
    assert ids_of(receive(consumer, 1)) == ["job_1"]
    with database.write() as session:
        wake(broker, session, "pico", ["job_2"])
        session.rollback()
    assert receive(consumer, 1, seconds=0.2) == []


def test_a_hint_carries_ids_up_to_a_limit(place: Place) -> None:
    """A hint names its LLM and at most a hundred ids; none is sent for no ids."""
    database = place.database()
    broker, consumer = place.broker(database), place.consumer()
    names = [f"job_{n}" for n in range(MOST_IDS + 50)]
    with database.write() as session:
        wake(broker, session, "pico", [])
        wake(broker, session, "pico", names)
    (message,) = receive(consumer, 1)
    assert message.args == ("pico", names[:MOST_IDS])
    assert receive(consumer, 1, seconds=0.1) == []


def test_a_delayed_hint_comes_later(place: Place) -> None:
    """A hint may be told to wait."""
    database = place.database()
    broker = place.broker(database)
    came: list[float] = []
    place.worker(broker, lambda _ids: came.append(time.monotonic()))
    start = time.monotonic()
    with database.write() as session:
        wake(broker, session, "pico", ["job_1"], delay_ms=200)
    assert wait_until(lambda: bool(came))
    assert came[0] - start >= 0.19


def test_hints_are_picked_up_without_looking_at_jobs(place: Place) -> None:
    """An idle worker gets a hint soon, and no statement of the broker's names the table of jobs."""
    handled: list[str] = []
    database = place.database()
    broker = place.broker(database)
    with statements() as sent:
        place.worker(place.broker(), handled.extend)
        time.sleep(0.1)
        with database.write() as session:
            wake(broker, session, "pico", ["job_1"])
        assert wait_until(lambda: handled == ["job_1"])
    assert not [statement for statement in sent if "jobs" in statement]


@pytest.mark.slow
def test_killing_a_worker_loses_nothing(place: Place, tmp_path: Path) -> None:
    """When a process is killed with messages in its hands, another handles them all."""
    place.lease_for(LEASE_SECONDS)
    broker, notes = place.broker(), tmp_path / "notes"
    sent = {f"job_{n}" for n in range(40)}
    for name in sent:
        broker.enqueue(hint(broker, name))
    with _victim(place, notes) as victim:
        assert wait_until(lambda: notes.exists() and len(notes.read_text().split()) >= 5)
        victim.kill()
    assert set(notes.read_text().split()) < sent
    with _victim(place, notes):
        assert wait_until(lambda: set(notes.read_text().split()) == sent)
        broker.join(QUEUE, timeout=PATIENCE_MS)


@contextmanager
def _victim(place: Place, notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, killed at the end of the block."""
    settings = place.settings.model_dump(mode="json")
    if place.settings.broker.redis_url is not None:
        settings["broker"]["redis_url"] = place.settings.broker.redis_url.get_secret_value()
    arguments = [json.dumps(settings), place.database_url, str(notes)]
    command = [sys.executable, "-m", "tests.workers.broker.victim", *arguments]
    with subprocess.Popen(command, cwd=PROJECT) as victim:
        try:
            yield victim
        finally:
            victim.kill()

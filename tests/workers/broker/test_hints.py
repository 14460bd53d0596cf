"""Hints, and the worker that receives them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from dramatiq.brokers.stub import StubBroker

from config.settings import Broker as BrokerSettings
from config.settings import Settings
from models.database import Database
from workers.broker import make_broker, make_worker, wake
from workers.broker.hints import ACTOR, declare_drain, hint_queue

QUEUE = hint_queue("pico")


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """An empty database."""
    with closing(Database.connect(sqlite_url)) as database:
        yield database


def test_any_dramatiq_broker_takes_hints(database: Database) -> None:
    """A broker that is not ours is sent the hint after the commit, too."""
    broker = StubBroker(middleware=[])
    declare_drain(broker, ["pico"])
    with database.write() as session:
        wake(broker, session, "pico", ["job_1"])
        assert broker.queues[QUEUE].qsize() == 0
    assert broker.queues[QUEUE].qsize() == 1
    broker.close()


def test_two_brokers_know_nothing_of_each_other(database: Database) -> None:
    """Nothing is registered globally: each broker has an actor of its own."""
    first, second = (make_broker(Settings(), database) for _ in range(2))
    assert first.get_actor(ACTOR) is not second.get_actor(ACTOR)
    assert first.get_declared_queues() == {QUEUE}
    assert first.get_declared_delay_queues() == set()


def test_a_process_that_only_sends_handles_no_hint(database: Database) -> None:
    """Where no handler was registered, a hint that is received is an error."""
    broker = make_broker(Settings(), database)
    with pytest.raises(RuntimeError, match="only sends"):
        broker.get_actor(ACTOR)("pico", ["job_1"])


def test_a_worker_polls_as_the_settings_say(database: Database) -> None:
    """The poll of the settings is the worker's, and it fetches many hints at once."""
    settings = Settings(broker=BrokerSettings(poll_ms=70))
    worker = make_worker(make_broker(settings, database), "pico", threads=3)
    assert (worker.worker_timeout, worker.worker_threads) == (70, 3)
    assert worker.queue_prefetch >= 32


def test_the_broker_is_light_to_import() -> None:
    """Importing the broker loads no engine, no HTTP and no Redis."""
    heavy = ("mlx", "mlx_lm", "transformers", "numpy", "fastapi", "starlette", "httpx2", "redis")
    code = f"import sys, workers.broker; sys.exit(bool({{*{heavy!r}}} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

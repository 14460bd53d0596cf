"""What only the Redis broker does."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from prometheus_client import REGISTRY

from config.settings import Broker as BrokerSettings
from config.settings import Live, Settings
from migrations.metadata import metadata
from models.database import Database
from models.ids import new_id
from tests.workers.broker.place import Place, hint, settings_of
from workers.broker import TokenDelta, make_broker, make_live_log, wake
from workers.broker import redis_broker as redis_module


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """A database with empty tables."""
    with closing(Database.connect(sqlite_url)) as database:
        metadata.create_all(database.engine)
        yield database


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def outcome(name: str) -> float:
    """How many hints became of that so far."""
    return REGISTRY.get_sample_value("penstock_hints_total", {"outcome": name}) or 0


def test_a_failed_send_fails_nobody(
    database: Database, caplog: pytest.LogCaptureFixture, unused_port: int
) -> None:
    """When Redis is away, the transaction is committed; the lost hint is logged and counted."""
    settings = redis_at(f"redis://127.0.0.1:{unused_port}")
    failed, sent = outcome("failed"), outcome("sent")
    with (
        closing(make_broker(Settings(broker=settings), database)) as broker,
        caplog.at_level(logging.WARNING),
        database.write() as session,
    ):
        wake(broker, session, "pico", ["job_1"])
    assert (outcome("failed"), outcome("sent")) == (failed + 1, sent)
    assert "the sweeper will hint again" in caplog.text


def test_a_silent_redis_holds_senders_up_once(
    database: Database, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After waiting in vain for an answer, the next hints are given up at once, for a while."""
    monkeypatch.setattr(redis_module, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(redis_module, "QUIET_SECONDS", 60.0)
    settings = redis_at(silent)
    waits = []
    with closing(make_broker(Settings(broker=settings), database)) as broker:
        for _ in range(3):
            start = time.monotonic()
            with database.write() as session:
                wake(broker, session, "pico", ["job_1"])
            waits.append(time.monotonic() - start)
    assert 1.0 <= waits[0] < 8.0
    assert max(waits[1:]) < 1.0


def test_sending_is_tried_again_after_the_quiet_time(
    database: Database, redis_url: str, redis_namespace: str
) -> None:
    """A broker that was quiet for a while sends again."""
    settings = redis_at(redis_url, namespace=redis_namespace)
    place = Place(settings_of(settings), "sqlite://")
    broker = place.broker(database)
    assert isinstance(broker, redis_module.PromptRedisBroker)
    failed, sent = outcome("failed"), outcome("sent")
    for quiet in (60, 0):
        broker._quiet.until = time.monotonic() + quiet
        with database.write() as session:
            wake(broker, session, "pico", ["job_1"])
    assert (outcome("failed"), outcome("sent")) == (failed + 1, sent + 1)
    place.close()


def test_keys_say_nothing_of_what_they_hold(database: Database, redis_url: str, redis_namespace: str) -> None:
    """All keys are under the namespace, and none carries an id of a job."""
    settings = redis_at(redis_url, namespace=redis_namespace)
    with closing(make_broker(Settings(broker=settings), database)) as broker:
        broker.enqueue(hint(broker, "job_1"))
        broker.enqueue(hint(broker, "job_1"), delay=1000)
    with redis.Redis.from_url(redis_url) as client:
        keys = [key.decode() for key in client.scan_iter(match=f"{redis_namespace}*")]
    names = {key.removeprefix(redis_namespace) for key in keys}
    assert names == {
        ":__heartbeats__", ":hints.pico", ":hints.pico.msgs", ":hints.pico.DQ", ":hints.pico.DQ.msgs",
    }  # fmt: skip


def test_a_missing_url_is_named(database: Database) -> None:
    """Redis without a URL is refused with the name of the setting that is missing."""
    unchecked = BrokerSettings().model_copy(update={"kind": "redis"})
    settings = Settings().model_copy(update={"broker": unchecked})
    with pytest.raises(ValueError, match="redis_url is not set"):
        make_broker(settings, database)


def test_watchers_see_states_while_redis_is_away(
    database: Database, unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Redis tokens are not shown, and nobody gets an error for it."""
    settings = Settings(broker=redis_at(f"redis://127.0.0.1:{unused_port}"), live=Live(kind="redis"))
    job_id = new_id("job")
    with closing(make_live_log(settings, database)) as log, caplog.at_level(logging.WARNING):
        log.append([TokenDelta("default", job_id, 1, "a", 1)])
        assert log.read(job_id, None) == []
    assert "were not shown" in caplog.text
    assert "cannot be read" in caplog.text


def test_a_silent_redis_holds_watchers_up_once(
    database: Database, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one command without an answer the live log asks nothing more for a while."""
    monkeypatch.setattr(redis_module, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(redis_module, "QUIET_SECONDS", 60.0)
    asked: list[str] = []
    command = redis.Redis.execute_command

    def count(self: redis.Redis, name: str, *rest: object, **options: object) -> object:
        asked.append(name)
        return command(self, name, *rest, **options)  # type: ignore[no-untyped-call]  # redis-py's own

    monkeypatch.setattr(redis.Redis, "execute_command", count)
    settings = Settings(broker=redis_at(silent), live=Live(kind="redis"))
    job_id = new_id("job")
    with closing(make_live_log(settings, database)) as log:
        for _ in range(3):
            assert log.read(job_id, None) == []
        log.append([TokenDelta("default", job_id, 1, "a", 1)])
    assert asked == ["XRANGE"]


def redis_at(url: str, **others: str) -> BrokerSettings:
    """Settings of a broker on the Redis at some URL."""
    return BrokerSettings.model_validate({"kind": "redis", "redis_url": url, **others})


@pytest.fixture
def unused_port() -> int:
    """A TCP port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

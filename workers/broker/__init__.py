"""How work is announced and watched: Dramatiq brokers, hints, live events.

Light to import: neither MLX nor HTTP, and Redis only where it is configured.
Nothing is registered at import; actors belong to the broker that is made.
"""

from __future__ import annotations

from dramatiq import Broker, Worker

from config.settings import Settings
from models.database import Database
from workers.broker.hints import declare_drain, hint_queue, register_drain, wake, wake_all
from workers.broker.live import LiveEvent, LiveLog, SqlLiveLog, TokenDelta
from workers.broker.sql import SqlBroker

__all__ = [
    "Broker",
    "LiveEvent",
    "LiveLog",
    "SqlBroker",
    "TokenDelta",
    "Worker",
    "make_broker",
    "make_live_log",
    "make_worker",
    "register_drain",
    "wake",
    "wake_all",
]

POLL_MS = 50
PREFETCH = 32
"""Hints are handled in microseconds: fetching many at once saves transactions."""


def make_broker(settings: Settings, database: Database) -> Broker:
    """The broker that the settings name, with the actor ``drain`` and a queue of hints for each LLM.

    Raises:
        ValueError: Redis is chosen and no URL is given, or the URL cannot be read.
    """
    chosen = settings.broker
    broker: Broker
    if chosen.kind == "redis":
        from workers.broker.redis_broker import PromptRedisBroker

        broker = PromptRedisBroker(
            _redis_url(settings),
            namespace=chosen.namespace,
            poll_ms=chosen.poll_ms,
            lease_seconds=chosen.lease_seconds,
        )
    else:
        broker = SqlBroker(database, poll_ms=chosen.poll_ms, lease_seconds=chosen.lease_seconds)
    declare_drain(broker, sorted(settings.llms))
    return broker


def make_worker(broker: Broker, llm: str, threads: int = 2) -> Worker:
    """A Dramatiq worker for the hints of one LLM, to be started within a process of ours; one a process.

    It polls as often as the broker's settings say: Dramatiq's own default
    picks up idle messages after 300 ms.
    """
    poll_ms = getattr(broker, "poll_ms", POLL_MS)
    worker = Worker(broker, queues={hint_queue(llm)}, worker_timeout=poll_ms, worker_threads=threads)
    worker.queue_prefetch = max(worker.queue_prefetch, PREFETCH)
    return worker


def make_live_log(settings: Settings, database: Database) -> LiveLog:
    """The log of live events that the settings name; errors as in :func:`make_broker`."""
    if settings.live.kind == "redis":
        from workers.broker.live_redis import RedisLiveLog

        return RedisLiveLog(
            database,
            _redis_url(settings),
            namespace=settings.broker.namespace,
            keep_seconds=settings.live.keep_seconds,
        )
    return SqlLiveLog(database)


def _redis_url(settings: Settings) -> str:
    if settings.broker.redis_url is None:
        raise ValueError("broker.redis_url is not set")
    return settings.broker.redis_url.get_secret_value()

"""Dramatiq's Redis broker, set up by what was measured of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
"""Redis answers in milliseconds; a request must not wait much longer for a dead one."""

QUIET_SECONDS = 2.0
"""After a silence nothing is sent for this long, so that only some requests pay for waiting."""

NO_ANSWER = (redis.RedisError, ConnectionClosed)
"""What is raised when Redis cannot be asked, or is spared."""

SILENT = "Redis did not answer a moment ago"

EVERY_COMMAND = 1_000_000
"""The default chance of 1000 in a million leaves the messages of dead workers lying for many minutes."""


def connect(
    url: str, *, connect_seconds: float = CONNECT_SECONDS, answer_seconds: float = ANSWER_SECONDS
) -> redis.Redis:
    """A client that gives up in time and never repeats a command, for that would double messages."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=connect_seconds,
        socket_timeout=answer_seconds,
        retry=Retry(NoBackoff(), 0),
    )


class Quiet:
    """Remembers a silence of Redis: for a while nothing is asked of it, so that not all wait in vain."""

    def __init__(self) -> None:
        self.until = 0.0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Ask in here.

        Raises:
            ConnectionClosed: Redis was silent a moment ago, so it was not asked.
        """
        if time.monotonic() < self.until:
            raise ConnectionClosed(SILENT)  # type: ignore[no-untyped-call]  # Dramatiq does not annotate it
        try:
            yield
        except redis.TimeoutError:
            self.until = time.monotonic() + QUIET_SECONDS
            raise


class PromptRedisBroker(RedisBroker):
    """Brings the messages of dead workers back at once, and does not let a silent Redis hold senders up."""

    def __init__(self, url: str, *, namespace: str, poll_ms: int, lease_seconds: float) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # Dramatiq does not annotate it
            client=connect(url),
            middleware=[],
            namespace=namespace,
            maintenance_chance=EVERY_COMMAND,
            heartbeat_timeout=int(lease_seconds * 1000),
        )
        self.poll_ms = poll_ms
        self._quiet = Quiet()

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a message.

        Raises:
            ConnectionClosed: Redis was silent a moment ago, so it was not tried.
            redis.RedisError: it was tried and failed, or no answer came.
        """
        with self._quiet.kept():
            return super().enqueue(message, delay=delay)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

"""Whether the broker answers: asked seldom, and given up on soon."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from api.wire.fields import CheckView
from config.settings import Broker

log = logging.getLogger(__name__)

SECONDS = 1.0
"""How long an answer serves."""

PATIENCE_SECONDS = 0.3
"""How long reaching Redis may take, and then its answer."""


class Pulse:
    """The broker's check. The embedded one lives and dies with the database."""

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = broker.redis_url if broker.kind == "redis" else None
        self._clock = clock
        self._guard = threading.Lock()
        self._asked_at = -SECONDS
        self._found = CheckView(ok=True, detail="embedded in the database")

    def check(self) -> CheckView:
        """What the broker answered within the last second; where it must be asked, that takes a moment."""
        with self._guard:
            if self._url is not None and self._clock() - self._asked_at >= SECONDS:
                self._found = _ask(self._url.get_secret_value())
                self._asked_at = self._clock()
            return self._found


def _ask(url: str) -> CheckView:
    """Ping Redis; where it is, and why it does not answer, only the log tells in full."""
    import redis

    from workers.broker.redis_broker import connect

    try:
        with connect(url, connect_seconds=PATIENCE_SECONDS, answer_seconds=PATIENCE_SECONDS) as client:
            client.ping()
    except redis.RedisError as error:
        log.warning("Redis does not answer: %s", error)
        return CheckView(
            ok=False,
            detail=f"Redis does not answer ({type(error).__name__}): hints are missing,"
            " so jobs are found by looking every few seconds",
        )
    return CheckView(ok=True, detail="Redis answers")

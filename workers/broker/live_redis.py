"""Live tokens in Redis streams, changes of state from the database."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from models import live
from models.base import utcnow
from models.database import Database
from models.live import TokenDelta
from workers.broker.live import LiveEvent, split_cursor
from workers.broker.redis_broker import NO_ANSWER, Quiet, connect

MOST_ENTRIES = 10_000
"""Entries that the stream of one job keeps, about."""

log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """An entry of a stream and what it tells."""

    entry: str
    shown: live.Shown


class RedisLiveLog:
    """Tokens in one stream a job, which vanishes some time after its last token.

    The id of an event is ``<row>.<entry>``: the last of both kinds that its
    reader has seen, so that one id resumes both. When Redis fails, watchers see
    changes of state and no tokens.
    """

    def __init__(self, database: Database, url: str, *, namespace: str, keep_seconds: float) -> None:
        self._database = database
        self._client = connect(url)
        self._quiet = Quiet()
        self._namespace = namespace
        self._keep_ms = int(keep_seconds * 1000)

    def append(self, deltas: Sequence[TokenDelta]) -> None:
        """Add tokens to the streams of their jobs, in one round trip."""
        if not deltas:
            return
        now = utcnow().timestamp()
        pipeline = self._client.pipeline(transaction=False)
        for delta in deltas:
            key = self._key(delta.job_id)
            pipeline.xadd(key, {"at": now, "data": orjson.dumps(delta.data)}, maxlen=MOST_ENTRIES)
            pipeline.pexpire(key, self._keep_ms)
        try:
            with self._quiet.kept():
                pipeline.execute()
        except NO_ANSWER as error:
            log.warning("Live tokens of %d jobs were not shown: %s", len(deltas), error)

    def read(self, job_id: str, after: str | None, limit: int = 1000) -> list[LiveEvent]:
        """Events of one job after a cursor, by time.

        The states are read before the tokens: so whoever sees the end of a job
        has been shown all tokens that were written before it.
        """
        row, entry = split_cursor(after)
        with self._database.read() as session:
            states = live.after(session, job_id, row, limit)
        found: list[LiveEvent] = []
        for item in _by_time(states, self._tokens(job_id, entry, limit)):
            if isinstance(item, _Entry):
                entry = item.entry
            else:
                row = item.row
            found.append(LiveEvent(f"{row}.{entry}", *item.shown))
        return found[:limit]

    def prune(self, before: datetime) -> int:  # noqa: ARG002  (part of the protocol)
        """Redis forgets by itself."""
        return 0

    def close(self) -> None:
        """Close the connections to Redis."""
        self._client.close()

    def _key(self, job_id: str) -> str:
        return f"{self._namespace}:live:{job_id}"

    def _tokens(self, job_id: str, entry: str, limit: int) -> list[_Entry]:
        try:
            with self._quiet.kept():
                found: Any = self._client.xrange(self._key(job_id), min=f"({entry}", count=limit)
        except NO_ANSWER as error:
            log.warning("Live tokens of %s cannot be read: %s", job_id, error)
            return []
        return [_Entry(name.decode(), _shown(fields)) for name, fields in found]


def _shown(fields: dict[bytes, bytes]) -> live.Shown:
    at = datetime.fromtimestamp(float(fields[b"at"]), UTC)
    return live.Shown(live.TOKENS, orjson.loads(fields[b"data"]), at)


def _by_time(states: list[live.Seen], tokens: list[_Entry]) -> Iterable[live.Seen | _Entry]:
    return heapq.merge(states, tokens, key=lambda item: item.shown.at)

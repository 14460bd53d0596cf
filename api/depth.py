"""Whether the queue still takes jobs, from a tenant and in all."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from api.problems import Kind, Problem, invalid
from api.wire.problem import Fault
from config.settings import Queue
from models import counters
from models.database import Database
from models.room import own_limits

SECONDS = 0.25
"""How long a count serves, while it is far from the limit."""

RETRY_AFTER = 10
"""Seconds after which to come back when nobody knows how quickly jobs end."""

LATEST = 300
"""The longest such time: what was estimated for later may be quite wrong."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where one tenant stands at a limit: ``waiting`` jobs wait and ``most`` may, ``left`` more find room.

    ``own`` says that it is the tenant's limit, which leaves less room than that of all.
    """

    waiting: int
    most: int
    own: bool

    @property
    def left(self) -> int:
        """How many more jobs are taken."""
        return max(0, self.most - self.waiting)


class Depth:
    """The numbers of waiting jobs: a count of a moment ago, and what came through this door since.

    What is being stored has its room too, so that jobs which come at once do not all take the same. From
    its commit until its answer a job counts twice: so one too many may be refused, but none is
    taken. Another API process has a door of its own.

    ``rate`` tells how many jobs a second end, of all LLMs together; 0 when that is not known.
    """

    def __init__(self, database: Database, queue: Queue, rate: Callable[[], float]) -> None:
        self._database = database
        self._queue = queue
        self._rate = rate
        self._guard = threading.Lock()
        self._read_at = -SECONDS
        self._waiting: Counter[str] = Counter()
        self._all = 0
        self._coming: Counter[str] = Counter()
        self._limits: dict[str, int] = {}

    @contextmanager
    def held(self, tenant_id: str, more: int) -> Iterator[None]:
        """Keep room for ``more`` jobs of a tenant while they are stored, or come to nothing.

        Raises:
            Problem: 429, and the count behind it is fresh; 422 when they will never find room together.
        """
        with self._guard:
            room = self._room(tenant_id, SECONDS, self._coming)
            if more > room.left:
                room = self._room(tenant_id, 0, self._coming)
            if more <= room.left:
                self._coming[tenant_id] += more
        if more > room.left:
            raise self._refusal(room, tenant_id, more)
        try:
            yield
        finally:
            with self._guard:
                self._coming[tenant_id] -= more
                self._coming += Counter()  # those who have nothing coming any more go

    def add(self, tenant_id: str, more: int) -> None:
        """Note that jobs were stored."""
        with self._guard:
            self._waiting[tenant_id] += more
            self._all += more

    def headers(self, tenant_id: str, age: float) -> dict[str, str]:
        """How many jobs of a tenant may wait and how many more are taken.

        The form is that of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4. There is no
        time in it: room comes whenever a job begins, and no window ends. The count is at
        most ``age`` seconds old; an age without end reads nothing, for an answer that
        jobs are stored must not fail any more.
        """
        with self._guard:
            room = self._room(tenant_id, age, Counter())
        return self._headers(tenant_id, room)

    def _headers(self, tenant_id: str, room: Room) -> dict[str, str]:
        most = self._least(tenant_id)
        return {"RateLimit-Policy": f'"queue";q={most}', "RateLimit": f'"queue";r={room.left}'}

    def _room(self, tenant_id: str, age: float, coming: Counter[str]) -> Room:
        """The limit that leaves less, by a count that is at most ``age`` seconds old; to be guarded."""
        if time.monotonic() - self._read_at >= age:
            self._read()
        mine = self._waiting[tenant_id] + coming[tenant_id]
        own = Room(mine, self._most(tenant_id), own=True)
        shared = Room(self._all + coming.total(), self._queue.max_depth, own=False)
        return own if own.left < shared.left else shared

    def _read(self) -> None:
        with self._database.read() as session:
            self._waiting, self._limits = Counter(counters.waiting(session)), own_limits(session)
        self._all = self._waiting.total()
        self._read_at = time.monotonic()

    def _most(self, tenant_id: str) -> int:
        return self._limits.get(tenant_id, self._queue.max_tenant_depth)

    def _least(self, tenant_id: str) -> int:
        """The smaller of both limits."""
        return min(self._queue.max_depth, self._most(tenant_id))

    def _refusal(self, room: Room, tenant_id: str, more: int) -> Problem:
        name = "queue.max_tenant_depth or the tenant's max_waiting" if room.own else "queue.max_depth"
        if more > max(1, least := self._least(tenant_id)):
            tell = f"{more} were sent, and {least} may wait: send fewer together"
            return invalid([Fault(field="jobs", message=tell)])
        whose = "of your jobs wait" if room.own else "jobs wait"
        seconds = str(self._seconds(room, more - room.left))
        headers = self._headers(tenant_id, room)
        headers["RateLimit"] += f";t={seconds}"
        detail = f"{room.waiting} {whose} and {room.most} may ({name}): send {more} more later"
        return Problem(Kind.QUEUE_FULL, detail, headers={**headers, "Retry-After": seconds})

    def _seconds(self, room: Room, missing: int) -> int:
        """In how many seconds there may be room for so many jobs; tenants who wait share the work alike.

        Where none may wait at all, only a change of the limit makes room.
        """
        if room.most == 0:
            return LATEST
        rate = self._rate()
        if room.own:
            with self._guard:
                crowd = sum(count > 0 for count in self._waiting.values())
            rate /= max(1, crowd)
        return min(max(1, math.ceil(missing / rate)), LATEST) if rate else RETRY_AFTER

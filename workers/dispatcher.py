"""From hints to the engine: a bell, a window, and bulk claims of the best rows.

The bell is rung by hints, by jobs that end and by the start of the process.
Hints may be lost, and while Redis is away all of them are: so every few
seconds without a bell the dispatcher looks whether there is work, without a
lock. With that look and the sweeper switched off, jobs run on hints alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from config import telemetry
from config.settings import Settings
from models import claims, endings, jobs, workers
from models.base import utcnow
from models.claims import Claim, Place
from models.database import Database, Session, Unavailable
from workers.engine import Admission, EngineDead
from workers.homes import Homes
from workers.identity import Identity
from workers.vital import ends, vital_thread

log = logging.getLogger(__name__)

PAUSE_WHEN_UNAVAILABLE = 0.5
"""Seconds before a claim is tried again when the database does not answer."""


class Engine(Protocol):
    """What the dispatcher needs of the engine's thread."""

    def capacity(self) -> int:
        """Rows that can be taken now."""

    def parkable(self) -> list[Place]:
        """Priority and rank of the jobs that it holds, the last in rank first."""

    def submit(self, admissions: Sequence[Admission]) -> None:
        """Take rows that are to be admitted together."""


class Books(Protocol):
    """What the dispatcher needs of the recorder."""

    def expect(self, claims: Sequence[Claim]) -> None:
        """Open the books of claimed jobs."""

    def refuse(self, ending: endings.Ending) -> None:
        """Take the ending of a job that the engine cannot run."""

    @property
    def running(self) -> int:
        """Jobs claimed and not yet written down as ended."""


class Dispatcher:
    """Claims what the engine can take, whenever there is reason to look."""

    def __init__(  # noqa: PLR0913, PLR0917 - its parts are wired in one place, by name where it matters
        self,
        database: Database,
        engine: Engine,
        identity: Identity,
        books: Books,
        encode: Callable[[Claim], Admission | endings.Ending],
        settings: Settings,
        llm: str,
        on_others: Callable[[Session, list[str]], None],
        on_death: Callable[[], None],
    ) -> None:
        self._database = database
        self._engine = engine
        self._identity = identity
        self._llm = llm
        self._most_open = 2 * settings.engine.max_rows
        self._trial_jobs = settings.queue.trial_jobs
        self._homes = Homes(settings.worker.home_wait_ms / 1000)
        self._heard_seconds = settings.worker.heartbeat_ms / 1000
        self._heard_at = -inf
        self._books = books
        self._encode = encode
        self._on_others = on_others
        self.window_ms = settings.engine.window_ms
        self._look_seconds = settings.worker.look_seconds or None
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._thread = vital_thread("dispatcher", self._run, on_death)

    def ring(self) -> None:
        """Say that there may be work, or room for it."""
        self._bell.set()

    def start(self) -> None:
        """Begin to claim; the first look is for what was left from before."""
        self.ring()
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Claim nothing more; returns when what is encoded is in the engine, or after so many seconds.

        The rest of a claim under way goes back by its open books.
        """
        self._stopping.set()
        self._bell.set()
        if not ends(self._thread, seconds):
            log.warning("a claim under way is not waited for")

    def _run(self) -> None:
        while True:
            rung = self._bell.wait(self._homes.look_seconds or self._look_seconds)
            if self._stopping.is_set():
                return
            try:
                if rung or self.finds_work():
                    self._gather()
            except Unavailable as error:
                log.warning("claiming waits for the database: %s", error)
                self._stopping.wait(PAUSE_WHEN_UNAVAILABLE)
                self._bell.set()

    def finds_work(self) -> bool:
        """Whether a claim would change anything: one look that takes no lock."""
        room = self._room()
        with self._database.read() as session:
            if room <= 0:
                return claims.any_ahead(session, self._llm, self._engine.parkable())
            return claims.any_claimable(session, self._llm) or jobs.any_due(session, utcnow())

    def _gather(self) -> None:
        """Keep the window open (whoever arrives in it is admitted together), then admit."""
        self._stopping.wait(self.window_ms / 1000)
        self._bell.clear()
        while not self._stopping.is_set() and self.admit():
            pass

    def admit(self) -> bool:
        """Claim once and hand over; True when another claim may find more."""
        room = self._room()
        if room <= 0 and not self.finds_work():
            return False
        with self._database.write() as session:
            if not workers.stands(session, self._identity.worker_id):
                return False  # declared lost: the next beat will see it, and ring when there is a new id
            taken = self._claim(session, room)
        self._books.expect(taken)  # before the tokeniser: who knows nothing of a claim gives it back
        if taken:
            telemetry.engine_window_admissions.labels(self._llm).observe(len(taken))
        self._hand_over(taken)
        return 0 < room == len(taken)

    def _room(self) -> int:
        """What the engine can take, unless endings wait to be written: no job is claimed faster than that."""
        return min(self._engine.capacity(), self._most_open - self._books.running)

    def _claim(self, session: Session, room: int) -> list[Claim]:
        """The best jobs as far as there is room; without room, those for whom the engine parks others."""
        now, worker_id = utcnow(), self._identity.worker_id
        ready = jobs.promote_due(session, now) + endings.expire_due(session, now)
        if ready:
            self._on_others(session, ready)
        if room <= 0:
            return claims.claim_ahead(session, worker_id, self._llm, self._engine.parkable(), now)
        if time.monotonic() - self._heard_at > self._heard_seconds:
            self._heard_at = time.monotonic()
            self._homes.know(worker_id, workers.serving(session, self._llm))
        return claims.claim(
            session, worker_id, self._llm, room, utcnow(),
            trial_jobs=self._trial_jobs, leaves=self._homes.leaves,
        )  # fmt: skip

    def _hand_over(self, taken: Sequence[Claim]) -> None:
        admissions = []
        for claim in taken:
            if self._stopping.is_set():
                break
            made = self._encode(claim)
            if isinstance(made, endings.Ending):
                self._books.refuse(made)
            else:
                admissions.append(made)
        if admissions:
            self._submit(admissions)

    def _submit(self, admissions: Sequence[Admission]) -> None:
        try:
            self._engine.submit(admissions)
        except EngineDead:
            if not self._stopping.is_set():
                raise
            log.warning("%d jobs were claimed too late; they go back", len(admissions))

"""From hints to the engine: a bell, a window, and bulk claims of the best rows.

The bell is rung by hints, by jobs that end and by the start of the process.
Hints may be lost, and while Redis is away all of them are: so every few
seconds without a bell the dispatcher looks whether there is work, without a
lock. With that look and the sweeper switched off, jobs run on hints alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from config import telemetry
from config.settings import Settings
from models import endings, jobs, workers
from models.base import utcnow
from models.database import Database, Unavailable
from models.jobs import Claim
from workers.engine import Admission, EngineDead
from workers.identity import Identity
from workers.vital import ends, vital_thread

log = logging.getLogger(__name__)

PAUSE_WHEN_UNAVAILABLE = 0.5
"""Seconds before a claim is tried again when the database does not answer."""


class Engine(Protocol):
    """What the dispatcher needs of the engine's thread."""

    def capacity(self) -> int:
        """Rows that can be taken now."""

    def submit(self, admissions: Sequence[Admission]) -> None:
        """Take rows that are to be admitted together."""


class Books(Protocol):
    """What the dispatcher needs of the recorder."""

    def expect(self, claims: Sequence[Claim]) -> None:
        """Open the books of claimed jobs."""

    def refuse(self, ending: endings.Ending) -> None:
        """Take the ending of a job that the engine cannot run."""


class Dispatcher:
    """Claims what the engine can take, whenever there is reason to look."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        identity: Identity,
        books: Books,
        encode: Callable[[Claim], Admission | endings.Ending],
        settings: Settings,
        on_death: Callable[[], None],
    ) -> None:
        self._database = database
        self._engine = engine
        self._identity = identity
        self._llm = settings.default_llm
        self._books = books
        self._encode = encode
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
            rung = self._bell.wait(self._look_seconds)
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
        if self._engine.capacity() <= 0:
            return False
        with self._database.read() as session:
            return jobs.any_claimable(session, self._llm) or jobs.any_due(session, utcnow())

    def _gather(self) -> None:
        """Keep the window open (whoever arrives in it is admitted together), then admit."""
        self._stopping.wait(self.window_ms / 1000)
        self._bell.clear()
        while not self._stopping.is_set() and self.admit():
            pass

    def admit(self) -> bool:
        """Claim once and hand over; True when another claim may find more."""
        room = self._engine.capacity()
        if room <= 0:
            return False
        now = utcnow()
        worker_id = self._identity.worker_id
        with self._database.write() as session:
            if not workers.stands(session, worker_id):
                return False  # declared lost: the next beat will see it, and ring when there is a new id
            jobs.promote_due(session, now)
            endings.expire_due(session, now)
            claims = jobs.claim(session, worker_id, self._llm, room, now)
        self._books.expect(claims)  # before the tokeniser: who knows nothing of a claim gives it back
        if claims:
            telemetry.engine_window_admissions.labels(self._llm).observe(len(claims))
        self._hand_over(claims)
        return len(claims) == room

    def _hand_over(self, claims: Sequence[Claim]) -> None:
        admissions = []
        for claim in claims:
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

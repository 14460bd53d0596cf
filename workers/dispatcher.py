"""From hints to the engine: a bell, a window, and bulk claims of the best rows.

The bell is rung by hints, by jobs that end and by the start of the process.
No other wake-up exists, so nothing here polls: a hint that is lost is the
sweeper's to repair.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from config import telemetry
from models import endings, jobs
from models.base import utcnow
from models.database import Database, Unavailable
from models.jobs import Claim
from workers.engine import Admission
from workers.identity import Identity
from workers.vital import vital_thread

log = logging.getLogger(__name__)

PAUSE_WHEN_UNAVAILABLE = 0.5
"""Seconds before a claim is tried again when the database does not answer."""


class Engine(Protocol):
    """What the dispatcher needs of the engine's thread."""

    def capacity(self) -> int:
        """Rows that can be taken now."""

    def submit(self, admissions: Sequence[Admission]) -> None:
        """Take rows that are to be admitted together."""


class Dispatcher:
    """Claims what the engine can take, whenever there is reason to look."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        identity: Identity,
        llm: str,
        encode: Callable[[Claim], Admission | endings.Ending],
        refuse: Callable[[endings.Ending], None],
        window_ms: float,
        on_death: Callable[[], None],
    ) -> None:
        self._database = database
        self._engine = engine
        self._identity = identity
        self._llm = llm
        self._encode = encode
        self._refuse = refuse
        self.window_ms = window_ms
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

    def stop(self) -> None:
        """Claim nothing more; returns when a claim under way is in the engine."""
        self._stopping.set()
        self._bell.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._bell.wait()
            if self._stopping.is_set():
                return
            # The window: whoever arrives in it is admitted together.
            self._stopping.wait(self.window_ms / 1000)
            self._bell.clear()
            try:
                while not self._stopping.is_set() and self.admit():
                    pass
            except Unavailable as error:
                log.warning("claiming waits for the database: %s", error)
                time.sleep(PAUSE_WHEN_UNAVAILABLE)
                self._bell.set()

    def admit(self) -> bool:
        """Claim once and hand over; True when another claim may find more."""
        room = self._engine.capacity()
        if room <= 0:
            return False
        now = utcnow()
        with self._database.write() as session:
            jobs.promote_due(session, now)
            endings.expire_due(session, now)
            claims = jobs.claim(session, self._identity.worker_id, self._llm, room, now)
        if claims:
            telemetry.engine_window_admissions.labels(self._llm).observe(len(claims))
        self._hand_over(claims)
        return len(claims) == room

    def _hand_over(self, claims: Sequence[Claim]) -> None:
        admissions = []
        for claim in claims:
            made = self._encode(claim)
            if isinstance(made, endings.Ending):
                self._refuse(made)
            else:
                admissions.append(made)
        if admissions:
            self._engine.submit(admissions)

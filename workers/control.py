"""The worker's slow pulse: heartbeat, cancel flags, figures."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Protocol

from config.settings import Worker as WorkerSettings
from models import jobs
from models.database import Database, Unavailable
from workers.identity import Identity
from workers.vital import vital_thread

log = logging.getLogger(__name__)


class Subject(Protocol):
    """The process whose pulse this is."""

    identity: Identity

    def is_busy(self) -> bool:
        """Whether any job runs; an idle worker reads nothing but its own heartbeat."""

    def cancel(self, job_id: str, fence: int) -> None:
        """Stop a running job whose flag is up; may be told more than once."""

    def figures(self) -> dict[str, Any]:
        """What the heartbeat carries."""

    def publish(self) -> None:
        """Bring the metrics up to date."""

    def disown_strangers(self) -> None:
        """Give back jobs that stand in this worker's name without its knowing."""

    def give_up_jobs(self) -> None:
        """Let go of everything: others have been given these jobs."""

    def die(self) -> None:
        """End the process; a part of it broke."""


class Control:
    """One thread that looks at the database for what concerns running jobs."""

    def __init__(self, database: Database, settings: WorkerSettings, subject: Subject) -> None:
        self._database = database
        self._beat_seconds = settings.heartbeat_ms / 1000
        self._look_seconds = settings.control_ms / 1000
        self._subject = subject
        self._stopping = threading.Event()
        self._thread = vital_thread("control", self._run, subject.die)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        beat_at = 0.0
        while not self._stopping.wait(self._look_seconds):
            self._subject.publish()
            try:
                if self._subject.is_busy():
                    self._pass_cancels()  # first: a beat may wait for the database
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + self._beat_seconds
                    self._beat()
            except Unavailable as error:
                log.warning("the pulse waits for the database: %s", error)

    def _beat(self) -> None:
        if self._subject.identity.beat(self._subject.figures()):
            self._subject.disown_strangers()
            return
        log.error("this worker was declared lost; it gives its jobs up and registers anew")
        self._subject.identity.register()
        self._subject.give_up_jobs()

    def _pass_cancels(self) -> None:
        with self._database.read() as session:
            flagged = jobs.cancels_for(session, self._subject.identity.worker_id)
        for job_id, fence in flagged:
            self._subject.cancel(job_id, fence)

"""The worker's pulse: cancel flags, figures and commands many times a second, a heartbeat now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from config.settings import Worker as WorkerSettings
from models import jobs
from models.database import Database, Unavailable
from workers.commands import Commands
from workers.identity import Identity
from workers.vital import ends, vital_thread

log = logging.getLogger(__name__)


class Subject(Protocol):
    """The process whose pulse this is."""

    identity: Identity

    def is_busy(self) -> bool:
        """Whether any job runs: only then are flags asked for."""

    def is_stalled(self) -> bool:
        """Whether the engine has been at one step for too long; said once."""

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
    """Looks at the database for what concerns running jobs, and tells it that this worker lives.

    Threads of their own: a heartbeat writes and may have to wait for the database's lock, and so does
    who takes commands; no cancel is to wait with them.
    """

    def __init__(self, database: Database, settings: WorkerSettings, subject: Subject) -> None:
        self._database = database
        self._subject = subject
        self._control_ms = settings.control_ms
        self._commands: Commands | None = None
        self._stopping = threading.Event()
        self._threads = [
            self._thread("control", settings.control_ms, self._look),
            self._thread("heartbeat", settings.heartbeat_ms, self._beat),
        ]

    def _thread(self, name: str, ms: int, act: Callable[[], None]) -> threading.Thread:
        return vital_thread(name, partial(self._repeat, ms / 1000, act), self._subject.die)

    def start(self) -> None:
        """Begin to look and to beat."""
        for thread in self._threads:
            thread.start()

    def obey(self, commands: Commands) -> None:
        """Begin to take commands too; call it once the LLM is loaded, and the worker serves it."""
        self._commands = commands
        self._threads.append(self._thread("commands", self._control_ms, commands.look))
        self._threads[-1].start()

    def stop(self, seconds: float | None = None) -> None:
        """Look and beat no more; waits at most so long for each."""
        self._stopping.set()
        for thread in self._threads:
            ends(thread, seconds)
        if self._commands is not None:
            self._commands.close()

    def _repeat(self, seconds: float, act: Callable[[], None]) -> None:
        while not self._stopping.wait(seconds):
            try:
                act()
            except Unavailable as error:
                log.warning("the pulse waits for the database: %s", error)

    def _look(self) -> None:
        """Nothing in here waits for a lock: a cancel is to be seen at once."""
        if self._subject.is_stalled():
            log.critical("a step of the engine does not come to an end; this process ends")
            self._subject.die()
        if self._subject.is_busy():
            self._pass_cancels()
        self._subject.publish()

    def _pass_cancels(self) -> None:
        with self._database.read() as session:
            flagged = jobs.cancels_for(session, self._subject.identity.worker_id)
        for job_id, fence in flagged:
            self._subject.cancel(job_id, fence)

    def _beat(self) -> None:
        if self._subject.identity.beat(self._subject.figures()):
            self._subject.disown_strangers()
            return
        if self._stopping.is_set():
            return  # it has left meanwhile
        log.error("this worker was declared lost; it gives its jobs up and registers anew")
        self._subject.identity.register()
        self._subject.give_up_jobs()

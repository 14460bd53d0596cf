"""Who a worker process is: the row that stands for it, renewed if it was declared lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import telemetry
from models import endings, jobs, workers
from models.base import utcnow
from models.database import Database, Session
from models.hooks import after_commit
from models.ids import new_id
from workers.presence import Presence


class Identity:
    """A worker's id, its heartbeat, and the file that shows that its process lives."""

    def __init__(
        self,
        database: Database,
        kind: str,
        data_dir: Path,
        llms: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        """``llms`` says what its process can load, as in :class:`models.workers.Worker`."""
        self._database = database
        self._kind = kind
        self._llms = llms
        self._llm: str | None = None
        self._data_dir = data_dir
        self._presence: Presence | None = None
        self.worker_id = ""

    def register(self) -> None:
        """Store a new row for this process and go by its id from now on."""
        now = utcnow()
        worker = workers.Worker(
            id=new_id("worker"), kind=self._kind,
            host=socket.gethostname()[:255], pid=os.getpid(), beats=0,
            started_at=now, seen_at=now, figures={},
            llm=self._llm, llms=dict(self._llms()),
        )  # fmt: skip
        with self._database.write() as session:
            session.add(worker)
        self.worker_id = worker.id
        self._vanish()
        self._presence = Presence.show(self._data_dir, worker.id)

    def serve(self, session: Session, alias: str) -> None:
        """Say that this worker has loaded an LLM; said again whenever it registers anew."""
        workers.serve(session, self.worker_id, alias)
        self._llm = alias

    def beat(self, figures: dict[str, Any]) -> bool:
        """Raise the counter; False when this worker was declared lost meanwhile."""
        with self._database.write() as session:
            known = workers.beat(session, self.worker_id, figures, utcnow())
        telemetry.worker_heartbeats.labels(self._kind).inc()
        telemetry.worker_heartbeat_seconds.labels(self._kind).set_to_current_time()
        return known

    def leave(self, session: Session, currency: str, held: Sequence[tuple[str, int]] = ()) -> list[str]:
        """Say that this worker stops; returns the ids of jobs that may run elsewhere.

        What it ``held`` in good order (job id, fence) goes back as it is. Whatever
        else stands in its name is there after a fault, and was lost with its worker.
        """
        now = utcnow()
        workers.end(session, self.worker_id, now)  # first, so that no claim comes behind the rescue
        given = jobs.hand_back(session, [(*key, None) for key in held], "handed_back", now)
        ended = endings.rescue(session, self.worker_id, currency, now)
        after_commit(session, self._vanish)
        return given + ended.released

    def _vanish(self) -> None:
        if self._presence is not None:
            self._presence.end()
            self._presence = None

"""Who a worker process is: the row that stands for it, renewed if it was declared lost."""

from __future__ import annotations

import os
import socket
from typing import Any

from config import telemetry
from models import endings, workers
from models.base import utcnow
from models.database import Database
from models.ids import new_id


class Identity:
    """A worker's id and its heartbeat."""

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self._kind = kind
        self.worker_id = ""

    def register(self) -> None:
        """Store a new row for this process and go by its id from now on."""
        now = utcnow()
        worker = workers.Worker(
            id=new_id("worker"), kind=self._kind, host=socket.gethostname()[:255], pid=os.getpid(),
            beats=0, started_at=now, seen_at=now, figures={},
        )  # fmt: skip
        with self._database.write() as session:
            session.add(worker)
        self.worker_id = worker.id

    def beat(self, figures: dict[str, Any]) -> bool:
        """Raise the counter; False when this worker was declared lost meanwhile."""
        with self._database.write() as session:
            known = workers.beat(session, self.worker_id, figures, utcnow())
        telemetry.worker_heartbeats.labels(self._kind).inc()
        telemetry.worker_heartbeat_seconds.labels(self._kind).set_to_current_time()
        return known

    def leave(self, currency: str) -> None:
        """Say that this worker stops; what it still holds (only after a fault) goes to others."""
        now = utcnow()
        with self._database.write() as session:
            endings.rescue(session, self.worker_id, currency, now)
            workers.end(session, self.worker_id, now)

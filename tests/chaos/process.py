"""One process of the service as it is, except that it tells where it is and dies where it is told to.

``python -P -m tests.chaos.process MARKS api`` or ``… MARKS worker inference``: the
console's own command runs, with real signals, files and sockets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.chaos.marks import Marks


def watch(marks: Marks, owner: Any, name: str, phase: Callable[[Any], str]) -> None:
    """Let a method tell its phase, which may depend on the object it is called on."""
    real = getattr(owner, name)

    @wraps(real)
    def watched(this: Any, *arguments: Any, **options: Any) -> Any:
        with marks.phase_of(phase(this)):
            return real(this, *arguments, **options)

    setattr(owner, name, watched)


def watch_api(marks: Marks) -> None:
    """Storing a job, or a bulk."""
    from api.bulk_store import BulkStore
    from api.once import Once

    watch(marks, Once, "act", lambda _: "submit")
    watch(marks, BulkStore, "run", lambda _: "submit")


def watch_inference(marks: Marks) -> None:
    """A job's way through the worker."""
    from dramatiq.worker import _WorkerThread

    from workers.backends.fake import FakeBackend
    from workers.dispatcher import Dispatcher
    from workers.recorder import Recorder

    watch(marks, _WorkerThread, "process_message", lambda _: "delivery")
    watch(marks, Dispatcher, "admit", lambda _: "claim")
    watch(marks, FakeBackend, "step", _of_step)
    watch(marks, Recorder, "_transact", lambda _: "finish")


def _of_step(backend: Any) -> str:
    return "decode" if all(row.is_prefilled for row in backend._rows.values()) else "prefill"


def watch_errands(marks: Marks) -> None:
    """Repairing what others have lost."""
    from workers.sweeper import Sweeper

    watch(marks, Sweeper, "sweep", lambda _: "sweep")


def watch_statements(marks: Marks) -> None:
    """Every statement and every commit is a step in which a process may die."""
    event.listen(Engine, "before_cursor_execute", lambda *_: marks.step())
    event.listen(Engine, "commit", lambda *_: marks.step())


def shift_clock(marks: Marks) -> None:
    """Let the time of day be as wrong as the rig says."""
    import models.base

    class Shifted:
        @staticmethod
        def now(zone: tzinfo = UTC) -> datetime:
            return datetime.now(zone) + timedelta(seconds=marks.clock_offset)

    vars(models.base)["datetime"] = Shifted  # where utcnow() looks


WATCHES = {"api": watch_api, "inference": watch_inference, "errands": watch_errands}


def main() -> None:
    """Run one process of the service."""
    marks = Marks(Path(sys.argv[1]))
    del sys.argv[1]
    shift_clock(marks)
    watch_statements(marks)
    WATCHES[sys.argv[-1]](marks)
    from ops.cli import main as console

    console()


if __name__ == "__main__":
    main()

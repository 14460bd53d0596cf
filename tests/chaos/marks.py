"""Where a process is in the life of a job, and the orders it has: a few bytes that it shares with the rig."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PHASES = ("idle", "submit", "claim", "prefill", "decode", "finish", "delivery", "sweep")
"""What a process can be at; ``idle`` is everything else."""

_LAYOUT = struct.Struct("=BBxxid")
"""Phase now, phase to die in (0: live), steps to go until then, seconds by which the clock is wrong."""


class Marks:
    """The shared bytes; the rig writes orders, the process writes where it is and obeys."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(bytes(_LAYOUT.size))
        with file.open("r+b") as opened:
            self._bytes = mmap.mmap(opened.fileno(), _LAYOUT.size)
        self._here = threading.local()
        self._guard = threading.Lock()

    def _read(self) -> tuple[int, int, int, float]:
        return _LAYOUT.unpack_from(self._bytes)

    def close(self) -> None:
        """Let the file go: what is mapped keeps its file system busy."""
        self._bytes.close()

    def reset(self) -> None:
        """Forget the phase and the order of a process that is gone; the clock stays as wrong as it was."""
        _LAYOUT.pack_into(self._bytes, 0, 0, 0, 0, self._read()[3])

    def arm(self, phase: str, steps: int) -> None:
        """Order the process to die at the given step within the phase (0: as it enters)."""
        struct.pack_into("=i", self._bytes, 4, steps)
        self._bytes[1] = PHASES.index(phase)

    def shift_clock(self, seconds: float) -> None:
        """Set the process's wall clock wrong by so much."""
        struct.pack_into("=d", self._bytes, 8, seconds)

    @property
    def phase(self) -> str:
        """What the process is at."""
        return PHASES[self._read()[0]]

    @property
    def armed(self) -> str | None:
        """The phase the process is to die in."""
        order = self._read()[1]
        return PHASES[order] if order else None

    @property
    def clock_offset(self) -> float:
        """Seconds to add to the time of day."""
        return self._read()[3]

    @contextmanager
    def phase_of(self, name: str) -> Iterator[None]:
        """Be in a phase; its beginning and its end are steps in which the process may have to die."""
        outer, self._here.phase = getattr(self._here, "phase", None), name
        self._bytes[0] = PHASES.index(name)
        self.step()
        try:
            yield
        finally:
            self.step()
            self._here.phase = outer
            self._bytes[0] = PHASES.index(outer or "idle")

    def step(self) -> None:
        """Between two instructions of this thread's phase: die if that is the order."""
        name = getattr(self._here, "phase", None)
        if name is None or self._bytes[1] != PHASES.index(name):
            return
        with self._guard:
            _, _, left, _ = self._read()
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            struct.pack_into("=i", self._bytes, 4, left - 1)

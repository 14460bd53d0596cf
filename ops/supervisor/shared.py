"""The figures that the service's processes share, and what those that have ended leave of them.

While any process of the service lives, the counters of the others go on
counting: a sum that fell would look like a service that began anew.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from config import telemetry


def tidy(folder: Path) -> None:
    """For a process that nobody supervises, at its start: as `up` does, but beside others that may run."""
    names = {file.stem.rpartition("_")[2] for file in folder.glob("*.db")}
    others = {int(name) for name in names if name.isdigit()} - {os.getpid()}
    dead = {pid for pid in others if not _lives(pid)}
    for pid in dead:
        if dead != others:
            forget(folder, pid)
            continue
        for file in folder.glob(f"*_{pid}.db"):
            file.unlink(missing_ok=True)


def forget(folder: Path, pid: int) -> None:
    """Drop the gauges of a process that has ended, and of its other files what it has not used."""
    telemetry.forget_process(pid)
    for file in folder.glob(f"*_{pid}.db"):
        draft = file.with_suffix(".draft")
        try:
            figures = file.read_bytes()
            used = int.from_bytes(figures[:4], sys.byteorder)  # how prometheus-client's files begin
            draft.write_bytes(figures[: max(used, 8)])
            draft.replace(file)  # a new file: should a process have mapped the old one, that stays whole
        except OSError:  # the disk is full: it stays as long as it is
            draft.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True

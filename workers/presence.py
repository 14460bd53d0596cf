"""A locked file for each living worker of a data directory: who can lock it knows that the worker is gone.

The system takes a process's locks from it however it ends. So after a ``kill -9`` the sweeper of the same
machine need not wait for the lease to run out; workers elsewhere are known by their heartbeats alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

FOLDER = "workers"

DRAFT_SECONDS = 60.0
"""Age of a file, made and locked within milliseconds, whose maker surely did not get as far."""

log = logging.getLogger(__name__)


class Presence:
    """The file of one worker, locked until :meth:`end` or the end of the process."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor

    @classmethod
    def show(cls, data_dir: Path, worker_id: str) -> Self | None:
        """Lock a file in this worker's name; None where that cannot be done, and the lease must do."""
        file = data_dir / FOLDER / worker_id
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _forget_drafts(file.parent)
            return cls(file, _lock(file))
        except OSError as error:
            log.warning("a sudden end of this worker will be seen late: %s", error)
            return None

    def end(self) -> None:
        """Leave in good order: nobody is to look for this worker."""
        self._file.unlink(missing_ok=True)
        os.close(self._descriptor)


def _lock(file: Path) -> int:
    """Make a file that is locked from the moment in which it can be found; returns its descriptor."""
    draft = file.with_name(f".{file.name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, _here())
        draft.rename(file)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def _forget_drafts(folder: Path) -> None:
    """Remove what workers left that were killed before they could be found."""
    for draft in folder.glob(".worker_*"):
        with suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > DRAFT_SECONDS:
                draft.unlink()


def _here() -> bytes:
    return socket.gethostname().encode()


def gone(data_dir: Path) -> list[Path]:
    """The files, named by their ids, of workers of this machine whose process has ended without a word."""
    return [file for file in (data_dir / FOLDER).glob("worker_*") if _is_gone(file)]


def _is_gone(file: Path) -> bool:
    try:
        with file.open("rb+") as stream:
            # Locks may not reach from one machine to another, though the folder does.
            if stream.read() != _here():
                return False
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # it is locked, or has just been taken away
    return True

"""Children write their logs to files by themselves; this shows what is new in them.

A child never waits for a slow terminal, and its last words survive everybody.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ops.show import say

KEEP_BYTES = 32 * 1024 * 1024
"""Size at which a log is copied to ``<name>.log.1`` and begun anew."""


class LogTail:
    """Follows some log files in a thread and repeats each line with its child's name before it.

    Neither a reader that has gone nor a full disk ends it: logs are turned over all the same.
    """

    def __init__(self, files: Mapping[str, Path], out: TextIO, poll_seconds: float = 0.1) -> None:
        self._width = max(map(len, files), default=0)
        self._out = out
        self._poll_seconds = poll_seconds
        self._ending = threading.Event()
        self._logs = [_Log(name, file) for name, file in files.items()]
        self._thread = threading.Thread(target=self._follow, name="logs", daemon=True)

    def start(self) -> None:
        """Begin to follow from the files' present ends."""
        self._thread.start()

    def stop(self) -> None:
        """Show what is left and end the thread."""
        self._ending.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ending.wait(self._poll_seconds):
            self._show()
        self._show()

    def _show(self) -> None:
        for log in self._logs:
            with suppress(FileNotFoundError):  # somebody has deleted it; its writer goes on unseen
                for text in log.lines():
                    say(f"{log.name.ljust(self._width)} | {text}", self._out)
                log.turn_over()


class _Log:
    """One file and how far it has been shown."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self._file = file
        file.touch(mode=0o600)
        self._shown = file.stat().st_size
        self._rest = b""

    def lines(self) -> list[str]:
        """Whole lines that have come since the last call."""
        if self._file.stat().st_size <= self._shown:
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._shown)
            new = stream.read()
        self._shown += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [text.decode(errors="replace") for text in whole]

    def turn_over(self) -> None:
        """Copy a full file away and empty it: its writer appends, so it goes on at the new end.

        Where there is no room for the copy the text is let go: the jobs need the room more.
        """
        if self._shown >= KEEP_BYTES:
            copy = self._file.with_suffix(".log.1")
            try:
                shutil.copyfile(self._file, copy)
            except OSError:
                copy.unlink(missing_ok=True)
            with self._file.open("r+b") as stream:
                stream.truncate(0)
            self._shown = 0

"""No orphans: a child notices when the process that started it is gone, however it went.

The parent holds the write end of a pipe and never writes. Each child inherits
the read end; when the parent ends, even by ``kill -9``, the system closes the
write end and the child reads the end of the file.
"""

from __future__ import annotations

import os
import signal
import threading
import time

# Not PENSTOCK_…: that prefix belongs to the settings, which refuse names they do not know.
VARIABLE = "_PENSTOCK_LIFELINE_FD"
GRACE_VARIABLE = "_PENSTOCK_LIFELINE_GRACE"

WATCHER = "lifeline"

GRACE_SECONDS = 180.0
"""How long a child that lost its parent may take to stop by itself, unless its parent has told it."""


class Lifeline:
    """The parent's side: a pipe whose write end nobody else holds."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()

    def variables(self) -> dict[str, str]:
        """What a child must find in its environment; pass ``read_end`` to it as well."""
        return {VARIABLE: str(self.read_end)}

    def close(self) -> None:
        """Let go: children that still live will stop."""
        os.close(self._write_end)
        os.close(self.read_end)


def grace(seconds: float) -> dict[str, str]:
    """What a child must find in its environment that may take so long to stop, as it may under its parent."""
    return {GRACE_VARIABLE: str(seconds)}


def hold(grace_seconds: float | None = None) -> bool:
    """Watch the line from this process on, if a parent gave one; says whether it did.

    When the line breaks the process gets SIGTERM, as from a stop that was asked for, and is ended
    at once if it still lives after ``grace_seconds``, or after what its parent said (:func:`grace`).
    """
    given, told = os.environ.pop(VARIABLE, None), os.environ.pop(GRACE_VARIABLE, None)
    if given is None:
        return False
    if grace_seconds is None:
        grace_seconds = GRACE_SECONDS if told is None else float(told)
    descriptor = int(given)
    os.set_inheritable(descriptor, False)
    watcher = threading.Thread(target=_watch, args=(descriptor, grace_seconds), name=WATCHER, daemon=True)
    watcher.start()
    return True


def is_held() -> bool:
    """Whether this process watches a line: then a parent looks after it."""
    return any(thread.name == WATCHER for thread in threading.enumerate())


def _watch(descriptor: int, grace_seconds: float) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds)
    os._exit(1)

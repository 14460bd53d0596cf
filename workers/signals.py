"""SIGTERM and SIGINT: the first asks for a clean stop, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading

EXIT_AT_ONCE = 130
"""Exit status after a second signal."""


class StopSignal:
    """Set by the first signal; must be made in the main thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        if self._event.is_set():
            os._exit(EXIT_AT_ONCE)
        self._event.set()

    def set(self) -> None:
        """Ask for a stop without a signal."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a signal; True when one came. Waits in slices, so that handlers run."""
        if timeout is not None:
            return self._event.wait(timeout)
        while not self._event.wait(0.5):
            pass
        return True

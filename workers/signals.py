"""SIGTERM and SIGINT: the first asks for a clean stop, the second ends at once."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

EXIT_AT_ONCE = 130
"""Exit status after a second signal."""


class StopSignal:
    """Set by the first signal; must be made in the main thread, and lasts as long as the process.

    A flag and a pipe, no event: a handler runs in the midst of what the main thread does, and may
    find the event's lock held by the very wait that it interrupts.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)  # whichever thread the signal reaches
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        if self._is_set:
            os._exit(EXIT_AT_ONCE)
        self.set()

    def set(self) -> None:
        """Ask for a stop without a signal; any thread may."""
        self._is_set = True
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake, b"\0")

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, in the main thread, until a stop is asked for; True when it is."""
        while not self._is_set and select.select([self._woken], [], [], timeout)[0]:
            os.read(self._woken, 1024)
        return self._is_set

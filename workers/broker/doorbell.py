"""What spares a consumer its poll when the message was sent by its own process."""

from __future__ import annotations

import threading


class Doorbell:
    """Wakes every consumer of one broker."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ears: set[threading.Event] = set()

    def listen(self) -> threading.Event:
        """An event that each ring sets, until :meth:`forget`."""
        ear = threading.Event()
        with self._guard:
            self._ears.add(ear)
        return ear

    def forget(self, ear: threading.Event) -> None:
        """Ring for this event no more."""
        with self._guard:
            self._ears.discard(ear)

    def ring(self) -> None:
        """Wake all who listen."""
        with self._guard:
            for ear in self._ears:
                ear.set()

"""How long reading from disk takes, by what it took before."""

from __future__ import annotations

BULK = 1 << 20
"""Bytes from which on a read tells how fast the disk is; shorter ones tell how long it takes to begin."""

WEIGHT = 0.2
"""What the last read counts for against all before it."""


class ReadSpeed:
    """Moving averages of the rate and of the time before the first byte, after a guess at an ordinary SSD."""

    def __init__(self) -> None:
        self.bytes_per_second = 500e6
        self.delay = 0.001

    def note(self, nbytes: int, seconds: float) -> None:
        """A read of ``nbytes`` has taken so long."""
        if nbytes >= BULK:
            rate = nbytes / max(seconds - self.delay, seconds / 2, 1e-9)
            self.bytes_per_second += WEIGHT * (rate - self.bytes_per_second)
        else:
            delay = max(0.0, seconds - nbytes / self.bytes_per_second)
            self.delay += WEIGHT * (delay - self.delay)

    def seconds(self, nbytes: int) -> float:
        """What ``nbytes`` will take."""
        return self.delay + nbytes / self.bytes_per_second

"""Figures of the disk tier."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """Totals since the start. ``reads`` are loads that were asked for, ``hits`` those that brought something.

    ``refused`` counts saves that were not taken and files that were not written, ``damaged`` files
    that were set aside or were gone, ``evicted`` those that made room.
    """

    writes: int = 0
    written_bytes: int = 0
    reads: int = 0
    read_bytes: int = 0
    hits: int = 0
    refused: int = 0
    damaged: int = 0
    evicted: int = 0


@dataclass(slots=True)
class DiskStats(Tally):
    """The totals, and what there is now; ``off`` is why nothing is written.

    ``files`` and ``bytes`` count other LLMs' files and damaged ones as well.
    """

    files: int = 0
    bytes: int = 0
    off: str | None = None

    @classmethod
    def of(cls, tally: Tally, files: int, nbytes: int, off: str | None) -> DiskStats:
        """A snapshot."""
        return cls(**asdict(tally), files=files, bytes=nbytes, off=off)

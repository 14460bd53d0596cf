"""The disk tier: nodes of the chain that outlive the pool and the process.

It never holds up who asks. What is on disk is known in memory, files are
written and read by two threads of its own, and whatever goes wrong with a file
or the disk only means that something is computed instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from pathlib import Path

from workers.cache.chain import link
from workers.cache.disk_catalog import Catalog
from workers.cache.disk_entry import Found
from workers.cache.disk_folder import BlockFolder, mark
from workers.cache.disk_keeper import Keeper
from workers.cache.disk_reader import Done, Reader
from workers.cache.disk_record import Content, Kind, lacking, records, unpacked
from workers.cache.disk_stats import DiskStats, Tally
from workers.cache.disk_writer import Writer
from workers.cache.segment import Segment

__all__ = ["DiskStats", "DiskTier", "Done", "Found"]


class DiskTier:
    """Keeps segments of one LLM in ``folder``, which may hold those of others.

    ``can_be_cut``: a beginning of a node is worth as much as the whole; else only positions with a
    snapshot are found. All files together take at most ``budget_bytes``, ``queue_bytes`` wait to be
    written at most, and the file system keeps ``reserve_bytes`` free. After an error nothing is
    written for ``retry_seconds``. Every method may be called from any thread, and waits for no disk
    unless it says so.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        budget_bytes: int,
        *,
        can_be_cut: bool,
        queue_bytes: int = 1 << 28,
        reserve_bytes: int = 1 << 30,
        retry_seconds: float = 30.0,
    ) -> None:
        self._can_be_cut = can_be_cut
        self._changed = threading.Condition()
        self._folder = BlockFolder(folder, fingerprint)
        self._catalog = Catalog()
        self._tally = Tally()
        keeper = Keeper(
            self._folder, self._catalog, self._tally, self._changed,
            fingerprint=fingerprint, budget_bytes=budget_bytes, reserve_bytes=reserve_bytes,
        )  # fmt: skip
        self._writer = Writer(
            self._folder, keeper, self._changed, queue_bytes=queue_bytes, retry_seconds=retry_seconds
        )
        self._reader = Reader(self._catalog, self._tally, self._changed, self._writer.condemn)

    def start(self) -> None:
        """Begin to look at what is there; returns at once."""
        self._writer.start()
        self._reader.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Write what is queued and end the threads; what takes longer than ``timeout`` is given up.

        Waits for the disk. Loads that have not begun bring None. Returns whether all ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        is_written = self._writer.stop(timeout)
        return self._reader.stop(deadline and max(0.0, deadline - time.monotonic())) and is_written

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was asked for is on disk; False if it is not in time, or nothing is written."""
        with self._changed:
            is_settled = self._changed.wait_for(lambda: self._writer.is_settled, timeout)
            return is_settled and self._writer.off is None

    def written(self) -> Future[None]:
        """Done when all that was asked for until then is on disk; with RuntimeError if nothing is written.

        It may be done in the writing thread: what is called then must be quick.
        """
        with self._changed:
            return self._writer.written()

    def find(self, parent: bytes, tokens: Sequence[int]) -> Found:
        """How far the chain goes on, on disk, behind the node named ``parent`` for the tokens that follow.

        Whole nodes by name, then the node that has most in common with the rest. The last one may
        therefore hold more tokens than were found.
        """
        with self._changed:
            return self._catalog.find(parent, tokens, can_be_cut=self._can_be_cut)

    def load(self, found: Found, done: Done) -> None:
        """Read what was found and call ``done``, in another thread, with its nodes in order.

        It gets None if any of the files turned out damaged or gone, which nobody finds any more
        then: looking again finds what there is before it. ``done`` must be quick and never raise.
        A tier that has stopped calls it at once.
        """
        self._reader.load(found, done)

    def seconds_for(self, nbytes: int) -> float:
        """How long reading so many bytes would probably take now, behind the loads that wait."""
        return self._reader.seconds_for(nbytes)

    def is_stored(self, name: bytes, offsets: Collection[int] = ()) -> bool:
        """Whether a node is on disk or queued, and its snapshots with so many of its tokens read."""
        with self._changed:
            place = self._catalog.where(name) or self._writer.queue.where(name)
            if place is None or not offsets:
                return place is not None
            parent, tokens = place[0], unpacked(place[1])
            return all(self._holds(Kind.SNAPSHOT, link(parent, tokens[:offset])) for offset in offsets)

    def save(self, segment: Segment) -> bool:
        """Queue for writing what of a segment is not stored yet.

        False if it was refused: too much is queued, or nothing is written at the moment.
        """
        whole = list(records(segment))
        with self._changed:
            parts = [part for record in whole for part in lacking(record, self._is_known)]
            is_taken = not parts or self._writer.put(parts, mark(segment.owner))
            self._tally.refused += not is_taken
            return is_taken

    def forget(self, owner: str) -> Future[int]:
        """Delete what only the agent ``owner`` needs, of every LLM; what it has queued is not written.

        When the future is done nothing of it is left, not even after a crash; it holds the number of
        files. Its exception is the OSError for which something may be left, or RuntimeError where the
        tier has stopped.
        """
        with self._changed:
            return self._writer.forget(mark(owner))

    @property
    def is_off(self) -> bool:
        """Whether nothing is written at the moment; :meth:`stats` says why."""
        with self._changed:
            return self._writer.is_off

    def stats(self) -> DiskStats:
        """Figures of now."""
        with self._changed:
            return DiskStats.of(self._tally, len(self._catalog), self._catalog.nbytes, self._writer.off)

    def check_integrity(self) -> None:
        """Raise AssertionError unless books and folder, which it lists, agree; for when nothing goes on."""
        with self._changed:
            self._catalog.check_integrity()
            books = {entry.path: entry.nbytes for entry in self._catalog}
        files = {file.path: file.nbytes for file in self._folder.files()}
        if books != files:
            odd = sorted(path.name for path, _ in books.items() ^ files.items())
            raise AssertionError(f"books and folder differ: {odd}")

    def _holds(self, kind: Kind, name: bytes) -> bool:
        return self._catalog.holds(kind, name) or self._writer.queue.holds(kind, name)

    def _is_known(self, kind: Kind, parent: bytes, content: Content) -> bool:
        return self._catalog.covers(kind, parent, content) or self._writer.queue.holds(kind, content.name)

"""The keeper: what the writing thread of the disk tier does to the folder, and notes in the catalog."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path

from workers.cache.disk_catalog import Catalog
from workers.cache.disk_entry import Entry
from workers.cache.disk_folder import BlockFolder, File, is_scarcity
from workers.cache.disk_format import Damaged, pack, read_header
from workers.cache.disk_record import Record, lacking
from workers.cache.disk_stats import Tally

log = logging.getLogger(__name__)


class Keeper:
    """Brings the folder and the catalog from one state in which they agree to the next.

    The catalog and the tally are touched under ``lock``, the disk is not: nobody waits for it.
    One exception is a file that gets another name, which takes no time.
    """

    def __init__(
        self,
        folder: BlockFolder,
        catalog: Catalog,
        tally: Tally,
        lock: AbstractContextManager[object],
        *,
        fingerprint: str,
        budget_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self._folder = folder
        self._catalog = catalog
        self.tally = tally
        self._lock = lock
        self._fingerprint = fingerprint
        self._budget = budget_bytes
        self._reserve = reserve_bytes

    def scan(self) -> Iterator[None]:
        """Read the headers of all files; comes back after each.

        Raises:
            OSError: the folder cannot be listed or changed.
        """
        with self._lock:
            self._catalog.clear()
        self._folder.tidy()
        for file in self._folder.files():
            if file.is_ours:
                self._take_in(file)
            else:
                with self._lock:
                    self._catalog.add(Entry(file.path, file.nbytes))
            yield
        self._make_room(0, ())

    def _take_in(self, file: File) -> None:
        """Enter a file of this LLM, set it aside, or remove it where others hold all that it holds."""
        try:
            entry = self._look_into(file)
        except (Damaged, OSError) as error:
            if is_scarcity(error):
                raise
            self._set_aside(file.path, file.nbytes, str(error))
            return
        with self._lock:
            is_new = not all(self._catalog.holds(entry.kind, name) for name in entry.names)
            if is_new:
                self._catalog.add(entry)
        if not is_new:
            self._folder.remove(file.path)

    def _look_into(self, file: File) -> Entry:
        if not file.is_regular:
            raise Damaged("it is no file")
        with file.path.open("rb") as stream:
            header = read_header(stream, file.nbytes, file.digest)
        if header.fingerprint != self._fingerprint:
            raise Damaged("it is of another LLM")
        return Entry.of(file.path, file.nbytes, header)

    def store(self, record: Record, owner: str) -> None:
        """Write what of a record is not stored yet.

        Raises:
            OSError: the disk is full or broken.
        """
        with self._lock:
            parts = lacking(record, self._catalog.covers)
        for part in parts:
            self._write(part, owner)

    def _write(self, record: Record, owner: str) -> None:
        self.check_room(record.nbytes)
        packed = pack(record, self._fingerprint)
        with self._lock:
            lineage = self._catalog.lineage(record.parent)
        if not self._make_room(packed.nbytes, lineage):
            with self._lock:
                self.tally.refused += 1
            return
        path = self._folder.place(packed, owner)
        self._folder.write(path, packed)
        header = read_header(BytesIO(packed.header), packed.nbytes, packed.digest)
        entry = Entry.of(path, packed.nbytes, header)
        with self._lock:
            self._catalog.add(entry)
            self.tally.writes += 1
            self.tally.written_bytes += packed.nbytes
            old = self._catalog.superseded(entry)
        self._remove(old)

    def check_room(self, nbytes: int) -> None:
        """Raise OSError if the file system would have less than the reserve left."""
        if self._folder.free_bytes() - nbytes < self._reserve:
            raise OSError(errno.ENOSPC, f"the disk would have less than {self._reserve >> 20} MiB left")

    def _make_room(self, nbytes: int, keep: Collection[Entry]) -> bool:
        """Evict until so many bytes fit in; False where ``keep`` leaves nothing more to evict."""
        if nbytes > self._budget:
            return False
        while True:
            with self._lock:
                if self._catalog.nbytes + nbytes <= self._budget:
                    return True
                victim = self._catalog.victim(keep)
            if victim is None:
                return False
            self._remove([victim])
            with self._lock:
                self.tally.evicted += 1

    def forget(self, owner: str) -> int:
        """Delete the files that only the agent with this mark needs, and wait for the disk; returns how many.

        A file that others go on from is theirs as well, and from now on theirs alone. One of which
        they need a part goes: the rest is nobody else's. What nobody owns goes with what it stands behind.

        Raises:
            OSError: not all of it could be deleted.
        """
        touched: list[Path] = []
        doomed: list[Entry] = []
        with self._lock:
            concerned = {*self._catalog.owned(owner)}
            for entry in list(concerned):
                concerned |= {one for one in self._catalog.descendants(entry) if one.owner in ("", owner)}
            for entry in concerned:
                touched.append(entry.path)
                heirs = self._catalog.heirs(entry, owner)
                if not heirs:
                    doomed.append(entry)
                elif entry.owner:
                    self._catalog.move(entry, self._folder.give(entry.path, min(heirs)))
        self._remove(doomed)
        self._folder.sync(touched)
        return len(doomed)

    def set_aside(self, entry: Entry, why: str) -> None:
        """Move a file away that turned out damaged, unless it has been evicted or written anew meanwhile."""
        with self._lock:
            if entry not in self._catalog:
                return
            self._catalog.remove(entry)
        self._set_aside(entry.path, entry.nbytes, why)

    def _set_aside(self, path: Path, nbytes: int, why: str) -> None:
        log.warning("A file of cached blocks is set aside: %s: %s", path.name, why)
        moved: File | None = File(path, nbytes)
        gone: list[Path] = []
        try:
            moved, gone = self._folder.set_aside(path)
        except OSError as error:
            log.warning("It stays where it is: %s", error)
        with self._lock:
            self.tally.damaged += 1
            if moved is not None:
                self._catalog.add(Entry(moved.path, moved.nbytes))
            for entry in [entry for entry in self._catalog if entry.path in gone]:
                self._catalog.remove(entry)

    def _remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            with self._lock:
                self._catalog.remove(entry)
            try:
                self._folder.remove(entry.path)
            except OSError:
                with self._lock:
                    self._catalog.add(entry)
                raise

"""The reading thread of the disk tier: nodes come back, each verified against what was written."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from workers.cache.disk_catalog import Catalog
from workers.cache.disk_entry import Entry, Found, Read
from workers.cache.disk_folder import is_scarcity
from workers.cache.disk_format import Damaged, read_header, read_parcel
from workers.cache.disk_record import WORD, Kind, unpacked
from workers.cache.disk_speed import ReadSpeed
from workers.cache.disk_stats import Tally
from workers.cache.parcel import Parcel
from workers.cache.segment import Node
from workers.vital import ends

log = logging.getLogger(__name__)

NOTE_SECONDS = 3600.0
"""How often it is written down at most that a file was used."""

Nodes = tuple[Node, ...]

Done = Callable[[Nodes | None], None]

Contents = list[Parcel | None]


class Reader:
    """Reads what was found, in the order in which it is asked for.

    ``condemn`` is told, under ``changed``, which file turned out damaged, and why.
    """

    def __init__(
        self,
        catalog: Catalog,
        tally: Tally,
        changed: threading.Condition,
        condemn: Callable[[Entry, str], None],
    ) -> None:
        self._catalog = catalog
        self._tally = tally
        self._changed = changed
        self._condemn = condemn
        self._line: deque[tuple[Found, Done]] = deque()
        self._waiting_bytes = 0
        self._speed = ReadSpeed()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="disk-reader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float | None) -> bool:
        """Finish the load that is under way, the others bring None; whether it has ended."""
        self._close()
        return ends(self._thread, timeout)

    def load(self, found: Found, done: Done) -> None:
        """Read what was found, or call ``done`` with None at once where nothing is read any more."""
        with self._changed:
            self._tally.reads += 1
            is_over = self._is_stopping
            if not is_over:
                self._line.append((found, done))
                self._waiting_bytes += found.nbytes
                self._changed.notify_all()
        if is_over:
            done(None)

    def seconds_for(self, nbytes: int) -> float:
        """How long reading so many bytes would take, behind those that wait."""
        with self._changed:
            return self._speed.seconds(nbytes + self._waiting_bytes)

    def _close(self) -> None:
        """Take no more loads, and answer those that nobody will read."""
        with self._changed:
            self._is_stopping = True
            line, self._line = self._line, deque()
            self._changed.notify_all()
        for _, done in line:
            done(None)

    # Everything below runs in the thread.

    def _run(self) -> None:
        try:
            while (load := self._next()) is not None:
                self._serve(*load)
        except Exception:
            log.critical("The disk tier broke; nothing is read any more", exc_info=True)
            self._close()

    def _next(self) -> tuple[Found, Done] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._is_stopping)
            return self._line.popleft() if self._line else None

    def _serve(self, found: Found, done: Done) -> None:
        nodes = None
        try:
            nodes = self._read(found)
        except MemoryError:
            log.warning("There was no memory for %d bytes of cached blocks", found.nbytes)
        finally:
            with self._changed:
                self._waiting_bytes -= found.nbytes
            done(nodes)

    def _read(self, found: Found) -> Nodes | None:
        if not found.reads:
            return ()
        began = time.monotonic()
        fetched = []
        for read in found.reads:
            contents = self._fetch(read)
            if contents is None:
                return None
            fetched.append((read, contents))
        nodes = _assemble(fetched)
        with self._changed:
            self._speed.note(found.nbytes, time.monotonic() - began)
            self._tally.hits += 1
            self._tally.read_bytes += found.nbytes
            for read in found.reads:
                self._catalog.use(read.entry)
        for read in found.reads:
            _note_use(read.entry)
        return nodes

    def _fetch(self, read: Read) -> Contents | None:
        """The arrays that ``read`` wants, None where they cannot be had; a file to blame is condemned."""
        path = read.entry.path
        try:
            return _contents(path, read)
        except (Damaged, OSError) as error:
            with self._changed:
                if read.entry not in self._catalog or is_scarcity(error):
                    return None  # it was evicted meanwhile, or nothing is wrong with it
                if read.entry.path == path:
                    self._condemn(self._catalog.disown(read.entry), str(error))
                    return None
        return self._fetch(read)  # it has got another owner meanwhile


def _contents(path: Path, read: Read) -> Contents:
    """What stands in the file; with the digest of its header its tokens and names are the catalog's."""
    with path.open("rb") as stream:
        header = read_header(stream, os.fstat(stream.fileno()).st_size, read.entry.digest)
        return [read_parcel(stream, header, node) for node in header.nodes[read.first : read.last]]


def _assemble(fetched: Iterable[tuple[Read, Contents]]) -> Nodes:
    """The nodes of a chain, a snapshot with the last of them."""
    nodes: list[Node] = []
    for read, contents in fetched:
        entry, span = read.entry, slice(read.first, read.last)
        rows = list(zip(entry.names[span], entry.tokens[span], contents, strict=True))
        if entry.kind is Kind.BLOCKS:
            nodes += [Node(name, unpacked(tokens), parcel) for name, tokens, parcel in rows]
        else:
            snapshots = {len(tokens) // WORD: parcel for _, tokens, parcel in rows if parcel}
            nodes[-1] = replace(nodes[-1], snapshots=snapshots)
    return tuple(nodes)


def _note_use(entry: Entry) -> None:
    """Let the file's time say, for the next start, that it was used; rarely, for that is a write, too."""
    now = time.monotonic()
    if now - entry.noted_at >= NOTE_SECONDS:
        entry.noted_at = now
        with suppress(OSError):  # then it seems older than it is
            os.utime(entry.path)

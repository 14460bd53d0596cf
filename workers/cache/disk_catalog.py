"""The catalog: what lies on the disk, kept in memory, so that nobody reads to find out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from workers.cache.chain import BLOCK_TOKENS, link, packed
from workers.cache.disk_entry import Entry, Found, Read
from workers.cache.disk_record import WHOLE, WORD, Content, Kind
from workers.cache.disk_shelves import Shelves


class Catalog:
    """All files by their nodes, in the order in which they were used; not for several threads at once."""

    def __init__(self) -> None:
        self._blocks: Shelves[tuple[Entry, int]] = Shelves()
        self._snapshots: Shelves[tuple[Entry, int]] = Shelves()
        self._lines: tuple[OrderedDict[Path, Entry], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self.nbytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def __iter__(self) -> Iterator[Entry]:
        for line in self._lines:
            yield from line.values()

    def __contains__(self, entry: Entry) -> bool:
        return self._lines[entry.rank].get(entry.path) is entry

    def find(self, parent: bytes, tokens: Sequence[int], *, can_be_cut: bool) -> Found:
        """How far the chain goes on behind ``parent`` for ``tokens``; unless it can be cut, to a snapshot."""
        names = [parent]
        for begin in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            name = link(names[-1], tokens[begin : begin + BLOCK_TOKENS])
            if name not in self._blocks.places:
                break
            names.append(name)
        return self._find_cut(names, tokens) if can_be_cut else self._find_snapshot(names, tokens)

    def _find_cut(self, names: list[bytes], tokens: Sequence[int]) -> Found:
        """The whole nodes, and of those behind them the one that has most in common with the rest."""
        whole = len(names) - 1
        common, name = self._blocks.nearest(names[whole], _piece(tokens, whole))
        if common:
            names.append(name)
        return _found(whole * BLOCK_TOKENS + common // WORD, map(self._blocks.places.__getitem__, names[1:]))

    def _find_snapshot(self, names: list[bytes], tokens: Sequence[int]) -> Found:
        """The last snapshot for which all keys and values are there as well."""
        for whole in reversed(range(len(names))):
            piece = _piece(tokens, whole)
            if whole < len(names) - 1:
                common, name = WHOLE, names[whole + 1]
            else:
                common, name = self._blocks.nearest(names[whole], piece)
            length, state = self._snapshots.beginning(names[whole], piece[:common])
            if length:
                places = [self._blocks.places[name] for name in (*names[1 : whole + 1], name)]
                found = whole * BLOCK_TOKENS + length // WORD
                return _found(found, [*places, self._snapshots.places[state]])
        return Found()

    def covers(self, kind: Kind, parent: bytes, content: Content) -> bool:
        """Whether something is stored, or is the beginning of a node that is."""
        if kind is Kind.SNAPSHOT:
            return self.holds(kind, content.name)
        return self._blocks.nearest(parent, content.tokens)[0] == len(content.tokens)

    def holds(self, kind: Kind, name: bytes) -> bool:
        """Whether a node or snapshot of this name is stored."""
        return name in self._of(kind).places

    def where(self, name: bytes) -> tuple[bytes, bytes] | None:
        """What a node stands behind and its packed tokens, if it is stored."""
        if name not in self._blocks.places:
            return None
        entry, place = self._blocks.places[name]
        return (entry.parent, *entry.names)[place], entry.tokens[place]

    def add(self, entry: Entry) -> None:
        """Take in a file, as the one used last."""
        for line in self._lines:
            if entry.path in line:
                self.remove(line[entry.path])
        self._lines[entry.rank][entry.path] = entry
        self.nbytes += entry.nbytes
        shelves = self._of(entry.kind)
        for place, (parent, tokens, name) in enumerate(entry.links()):
            shelves.add(parent, tokens, name, (entry, place))

    def clear(self) -> None:
        """Forget all files."""
        for entry in list(self):
            self.remove(entry)

    def remove(self, entry: Entry) -> None:
        """Forget a file, if it was known."""
        if entry not in self:
            return
        del self._lines[entry.rank][entry.path]
        self.nbytes -= entry.nbytes
        shelves = self._of(entry.kind)
        for parent, tokens, name in entry.links():
            if shelves.places[name][0] is entry:
                shelves.remove(parent, tokens, name)

    def use(self, entry: Entry) -> None:
        """Note that a file is the one used last, if it is still known."""
        if entry in self:
            self._lines[entry.rank].move_to_end(entry.path)

    def move(self, entry: Entry, path: Path) -> None:
        """A file has another path, and maybe another owner."""
        if entry in self:
            del self._lines[entry.rank][entry.path]
            entry.path = path
            self._lines[entry.rank][path] = entry

    def disown(self, entry: Entry) -> Entry:
        """Know nothing more of a file than that it takes room; returns its new entry."""
        foreign = Entry(entry.path, entry.nbytes)
        self.add(foreign)
        return foreign

    def victim(self, keep: Container[Entry]) -> Entry | None:
        """The file to go first: without anything behind it, not one of ``keep``; None if there is none.

        What the others stand behind stays as long as they do, however long ago it was read:
        without it they would be of no use.
        """
        candidates = (entry for entry in self if entry not in keep)
        return next((entry for entry in candidates if next(self.behind(entry), None) is None), None)

    def behind(self, entry: Entry, *, last: bool = False) -> Iterator[Entry]:
        """The other files directly behind a node, or the last one, of this file; some more than once."""
        if entry.kind is Kind.BLOCKS:
            for name in entry.names[-1:] if last else entry.names:
                for shelves in (self._blocks, self._snapshots):
                    others = (shelves.places[other][0] for _, other in shelves.behind(name))
                    yield from (other for other in others if other is not entry)

    def descendants(self, entry: Entry, *, last: bool = False) -> set[Entry]:
        """All files that stand behind a node, or the last one, of this."""
        found = {*self.behind(entry, last=last)}
        pending = list(found)
        while pending:
            new = {*self.behind(pending.pop())} - found
            found |= new
            pending += new
        return found

    def heirs(self, entry: Entry, owner: str) -> set[str]:
        """The marks of other agents than ``owner`` whose conversations go on from all of this file."""
        return {other.owner for other in self.descendants(entry, last=True)} - {"", owner}

    def lineage(self, parent: bytes) -> set[Entry]:
        """The files with the nodes up to the one named ``parent``, as far back as they are stored."""
        found: set[Entry] = set()
        while parent in self._blocks.places:
            entry, _ = self._blocks.places[parent]
            found.add(entry)
            parent = entry.parent
        return found

    def owned(self, owner: str) -> list[Entry]:
        """The files of the agent with this mark, foreign ones included."""
        return [entry for entry in self if entry.owner == owner]

    def superseded(self, entry: Entry) -> list[Entry]:
        """Files of a single node that a node of this one goes on, of the same agent or of nobody."""
        found = []
        for parent, tokens, _ in entry.links() if entry.kind is Kind.BLOCKS else ():
            for key, name in self._blocks.behind(parent):
                other, _ = self._blocks.places[name]
                is_shorter = len(key) < len(tokens) and tokens.startswith(key)
                if is_shorter and len(other.names) == 1 and other.owner in ("", entry.owner):
                    found.append(other)
        return found

    def check_integrity(self) -> None:
        """Raise AssertionError unless all that is kept here fits together."""
        entries = list(self)
        if sum(entry.nbytes for entry in entries) != self.nbytes:
            raise AssertionError(f"the files have not {self.nbytes} bytes together")
        if not all(entry in self for entry in entries):
            raise AssertionError("a file stands in the wrong line")
        for shelves in (self._blocks, self._snapshots):
            shelves.check_integrity()
            if not all(
                entry in self and name == entry.names[place]
                for name, (entry, place) in shelves.places.items()
            ):
                raise AssertionError("a name leads to a file that is not there")

    def _of(self, kind: Kind) -> Shelves[tuple[Entry, int]]:
        return self._blocks if kind is Kind.BLOCKS else self._snapshots


def _piece(tokens: Sequence[int], whole: int) -> bytes:
    return packed(tokens[whole * BLOCK_TOKENS : (whole + 1) * BLOCK_TOKENS])


def _found(tokens: int, places: Iterable[tuple[Entry, int]]) -> Found:
    """What is to be read for these places, neighbours in one go."""
    reads: list[Read] = []
    for entry, place in places:
        if reads and reads[-1].entry is entry and reads[-1].last == place:
            reads[-1] = Read(entry, reads[-1].first, place + 1)
        else:
            reads.append(Read(entry, place, place + 1))
    return Found(tokens, sum(read.nbytes for read in reads), tuple(reads))

"""The twin's blocks, and the proof that no row is ever given a wrong one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from workers.backends.fake_marks import Marks, spread
from workers.backends.fake_rows import FakeRow
from workers.cache.parcel import Parcel, Tensor
from workers.cache.prefix import Piece
from workers.engine.backend import OutOfMemory, Row

STATE_BYTES = 64
"""Of the layer that cannot be cut: the last position's mark, again and again."""

Shapes = dict[str, tuple[str, tuple[int, ...]]]
POSITION: Shapes = {"position": ("I64", (1,))}


class WrongBlockError(AssertionError):
    """A row was to have contents that are not those of its tokens, or a block was misused."""


@dataclass(frozen=True, slots=True)
class FakeBlock:
    """Contents of so many tokens, or the state behind ``position`` tokens."""

    data: bytes
    position: int | None = None


class FakeBlocks:
    """All blocks by number; ``wrong`` remembers every misuse, for whoever swallows the error."""

    def __init__(self, marks: Marks, token_bytes: int, *, uncut: bool) -> None:
        self._marks = marks
        self._token_bytes = token_bytes
        self._uncut = uncut
        self._blocks: dict[int, FakeBlock] = {}
        self.wrong: list[str] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all contents."""
        return sum(len(block.data) for block in self._blocks.values())

    def check(self, row: Row) -> None:
        """Raise :class:`WrongBlockError` unless the prefix holds exactly what the row's tokens lead to."""
        prefix, at = row.prefix, 0
        marks = list(self._marks.of(row.tokens[: prefix.length]))
        for piece in prefix.pieces:
            held, size = self._blocks.get(piece.block), self._token_bytes
            self._hold(held is not None, f"block {piece.block} does not exist")
            self._hold(piece.start == at < piece.stop, f"block {piece.block} leaves a gap behind {at}")
            expected = self._marks.contents(marks[piece.start : piece.stop])
            told = f"block {piece.block} is not tokens {piece.start} to {piece.stop} of the row"
            self._hold(held is not None and held.position is None, told)
            self._hold(held is not None and held.data[: (piece.stop - piece.start) * size] == expected, told)
            at = piece.stop
        self._hold(at == prefix.length < len(row.tokens), f"a prefix of {at} tokens, told as {prefix.length}")
        self._check_snapshot(prefix.snapshot, marks)

    def keep(self, row: FakeRow, pieces: Sequence[Piece], snapshot: int | None, memory: int | None) -> None:
        """Make blocks of a row's contents, all or none; ``memory`` is for how many there is room."""
        held = len(row.contents)
        for piece in pieces:
            asked = f"tokens {piece.start} to {piece.stop} of a row that holds {held}"
            self._hold(0 <= piece.start < piece.stop <= held, asked)
        made = {
            piece.block: FakeBlock(self._marks.contents(row.marks[piece.start : piece.stop]))
            for piece in pieces
        }
        if snapshot is not None:
            self._hold(self._uncut, f"block {snapshot} is to be a snapshot, and no layer needs one")
            self._hold(held > 0, "a snapshot of a row that holds nothing")
            made[snapshot] = FakeBlock(spread(row.marks[-1], STATE_BYTES), held)
        self._hold(len(made) == len(pieces) + (snapshot is not None), "a block is to hold two things")
        self._take(made, memory)

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks."""
        for block in blocks:
            self._blocks.pop(block, None)

    def export(self, number: int) -> Parcel:
        """A block as bytes; raises KeyError for an unknown one."""
        block = self._blocks[number]
        if block.position is None:
            tokens = len(block.data) // self._token_bytes
            return Parcel({"marks": Tensor("U8", (tokens, self._token_bytes), block.data)})
        position = Tensor("I64", (1,), block.position.to_bytes(8, "little"))
        return Parcel({"state": Tensor("U8", (STATE_BYTES,), block.data), "position": position})

    def install(self, number: int, parcel: Parcel, memory: int | None) -> None:
        """Make a block of a parcel; raises ValueError for one of another LLM."""
        contents, at = parcel.tensors.get("marks"), parcel.tensors.get("position")
        expected: Shapes = {"marks": ("U8", (0, self._token_bytes))}
        if contents is not None:
            expected["marks"] = ("U8", (len(contents.data) // self._token_bytes, self._token_bytes))
        elif self._uncut:
            contents, expected = parcel.tensors.get("state"), {"state": ("U8", (STATE_BYTES,)), **POSITION}
        told = {name: (tensor.dtype, tensor.shape) for name, tensor in parcel.tensors.items()}
        sizes = [len(tensor.data) == _size(tensor) for tensor in parcel.tensors.values()]
        if contents is None or told != expected or not all(sizes):
            raise ValueError(f"a block with arrays {told} where {expected} were expected")
        position = None if at is None else int.from_bytes(at.data, "little")
        self._take({number: FakeBlock(contents.data, position)}, memory)

    def check_integrity(self, blocks: Collection[int]) -> None:
        """Raise AssertionError unless exactly these blocks exist and none was ever wrong."""
        if self._blocks.keys() != set(blocks):
            raise AssertionError(f"blocks {sorted(self._blocks)} are held, {sorted(blocks)} expected")
        self.check_none_was_wrong()

    def check_none_was_wrong(self) -> None:
        """Raise :class:`WrongBlockError` if one ever was, whatever became of the first error."""
        if self.wrong:
            raise WrongBlockError("; ".join(self.wrong))

    def _check_snapshot(self, snapshot: int | None, marks: Sequence[int]) -> None:
        if not marks or not self._uncut:
            self._hold(snapshot is None, f"a row that needs no snapshot is given block {snapshot}")
            return
        self._hold(snapshot in self._blocks, f"snapshot {snapshot} does not exist")
        wanted = FakeBlock(spread(marks[-1], STATE_BYTES), len(marks))
        held = None if snapshot is None else self._blocks[snapshot]
        self._hold(held == wanted, f"block {snapshot} is not the state behind {len(marks)} tokens of the row")

    def _take(self, made: Mapping[int, FakeBlock], memory: int | None) -> None:
        existing = sorted(made.keys() & self._blocks.keys())
        self._hold(not existing, f"blocks {existing} exist already")
        if memory is not None and len(self._blocks) + len(made) > memory:
            raise OutOfMemory(f"{len(self._blocks)} blocks and {len(made)} more, and memory for {memory}")
        self._blocks.update(made)

    def _hold(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.wrong.append(otherwise)
            raise WrongBlockError(otherwise)


def _size(tensor: Tensor) -> int:
    return prod(tensor.shape) * (8 if tensor.dtype == "I64" else 1)

"""The blocks and snapshots of the pool, as arrays on the device."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx

from workers.backends.layout import Layout
from workers.backends.rows import BatchRow
from workers.backends.tensors import to_array, to_tensor
from workers.cache.parcel import Parcel, Tensor
from workers.cache.prefix import Piece

POSITION = "position"
"""The name under which a snapshot's parcel says behind how many tokens it was taken."""


@dataclass(frozen=True, slots=True)
class Block:
    """Stacked arrays by name; a snapshot knows its ``position``."""

    arrays: Mapping[str, mx.array]
    position: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in self.arrays.values())


class BlockStore:
    """All blocks of one LLM by number."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._blocks: dict[int, Block] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(block.nbytes for block in self._blocks.values())

    def __getitem__(self, number: int) -> Block:
        """A block; raises KeyError for one that does not exist."""
        return self._blocks[number]

    def keep(self, row: BatchRow, pieces: Sequence[Piece], snapshot: int | None) -> None:
        """Make blocks of what a row holds, all of them or none.

        Raises ValueError for tokens that it does not hold, and for blocks that exist.
        """
        made = {piece.block: Block(row.block(self._layout, piece.start, piece.stop)) for piece in pieces}
        if snapshot is not None:
            made[snapshot] = Block(row.snapshot(self._layout), len(row.tokens))
        self._take(made)

    def drop(self, blocks: Iterable[int]) -> None:
        """Forget blocks."""
        for block in blocks:
            self._blocks.pop(block, None)

    def export(self, number: int) -> Parcel:
        """A block as bytes; raises KeyError for an unknown one."""
        block = self._blocks[number]
        tensors = {name: to_tensor(array) for name, array in block.arrays.items()}
        if block.position is not None:
            tensors[POSITION] = Tensor("I64", (1,), block.position.to_bytes(8, "little"))
        return Parcel(tensors)

    def install(self, number: int, parcel: Parcel) -> None:
        """Make a block of a parcel; raises ValueError for another LLM's, and for a block that exists."""
        at, expected, position = (
            parcel.tensors.get(POSITION),
            self._layout.block_shapes(_tokens(parcel)),
            None,
        )
        if at is not None:
            position = int.from_bytes(at.data, "little")
            expected = self._layout.snapshot_shapes(position) | {POSITION: ("I64", (1,))}
        told = {name: (tensor.dtype, tensor.shape) for name, tensor in parcel.tensors.items()}
        if told != expected:
            raise ValueError(f"a block with arrays {told} where this LLM has {expected}")
        arrays = {name: to_array(tensor) for name, tensor in parcel.tensors.items()}
        arrays.pop(POSITION, None)
        self._take({number: Block(arrays, position)})

    def check_integrity(self, blocks: Collection[int]) -> None:
        """Raise AssertionError unless exactly these blocks exist."""
        if self._blocks.keys() != set(blocks):
            raise AssertionError(f"blocks {sorted(self._blocks)} are held, {sorted(blocks)} expected")

    def _take(self, made: Mapping[int, Block]) -> None:
        """Add blocks whose arrays hang on to no others, once all of them are computed."""
        existing = made.keys() & self._blocks.keys()
        if existing:
            raise ValueError(f"blocks {sorted(existing)} exist already")
        mx.eval([block.arrays for block in made.values()])
        self._blocks.update(made)


def _tokens(parcel: Parcel) -> int:
    """Tokens of a block by its arrays of shape (slots, heads, tokens, size)."""
    shapes = (tensor.shape for tensor in parcel.tensors.values())
    return next((shape[2] for shape in shapes if len(shape) == 4), 0)

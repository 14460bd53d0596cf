"""Which arrays stand where in blocks, for layers of all kinds beside each other."""

from __future__ import annotations

from typing import Any

import pytest

from workers.backends.tensors import DTYPES, to_array, to_tensor
from workers.cache.parcel import Tensor
from workers.cache.prefix import Piece, Prefix
from workers.cache.spec import LayerSpec

from .apart import in_a_thread

WINDOW = 6


def fresh() -> list[Any]:
    """Layers with keys of one size and values of another, keys alone in a list, a window, and a state."""
    from mlx_lm.models import cache

    kinds: Any = cache  # without types
    listed = kinds.CacheList(kinds.KVCache(), kinds.KVCache())
    return [kinds.KVCache(), listed, kinds.RotatingKVCache(max_size=WINDOW), kinds.ArraysCache(2)]


def filled(tokens: int, dtype: Any) -> list[Any]:
    """The same with so many tokens, in which no two numbers are alike."""
    import mlx.core as mx

    layers = fresh()
    sizes = ((layers[0], 8, 4), (layers[1][0], 8, 8), (layers[1][1], 8, 0), (layers[2], 4, 4))
    for number, (leaf, *pair) in enumerate(sizes):
        numbers = [mx.arange(2 * tokens * size).reshape(1, 2, tokens, size) + number / 4 for size in pair]
        leaf.update_and_fetch(*(one.astype(dtype) for one in numbers))
    layers[3][0] = mx.arange(6, dtype=mx.float32).reshape(1, 2, 3) + tokens
    layers[3][1] = mx.full((1, 5), tokens, dtype=mx.int32)
    return layers


def contents(layers: list[Any], tokens: int) -> list[Any]:
    """The numbers that the first row of all layers holds, without what they have room for."""
    from workers.backends.layout import arrays_of, leaves_of

    found = []
    for leaf in leaves_of(layers):
        held = slice(-WINDOW, None) if hasattr(leaf, "max_size") else slice(0, tokens)
        for array in arrays_of(leaf).values():
            row = array[:1, :, held] if array.ndim == 4 else array[:1]
            found.append((array.dtype, row.tolist()))
    return found


def test_the_specification_is_read_off_the_caches() -> None:
    """Each layer with its own sizes; arrays of like shape stand together, empty ones nowhere."""
    import mlx.core as mx

    from workers.backends.layout import Layout

    layout = in_a_thread(lambda: Layout.measure(filled(1, mx.float16), bits=0))
    assert layout.spec.layers == (
        LayerSpec("full", 2, 8, 4),
        LayerSpec("full", 2, 8, 8),
        LayerSpec("full", 2, 8, 0),
        LayerSpec("sliding", 2, 4, 4, window=WINDOW),
        LayerSpec("state", state_bytes=6 * 4 + 5 * 4),
    )
    assert layout.spec.dtype == "F16"
    assert set(layout.block_shapes(9).values()) == {("F16", (4, 2, 9, 8)), ("F16", (1, 2, 9, 4))}
    assert set(layout.snapshot_shapes(9).values()) == {
        ("F16", (2, 2, WINDOW, 4)),
        ("F32", (1, 2, 3)),
        ("I32", (1, 5)),
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_row_comes_back_from_blocks_as_it_was(dtype: str) -> None:
    """Out of a batch into blocks, bytes, blocks again and a batch: every number is the same."""
    import mlx.core as mx

    from workers.backends.blocks import BlockStore
    from workers.backends.layout import Layout
    from workers.backends.opening import Opening
    from workers.backends.rows import BatchRow

    def whole() -> tuple[list[Any], list[Any]]:
        of = getattr(mx, dtype)
        layout = Layout.measure(filled(1, of), bits=0)
        store, rows = BlockStore(layout), [filled(20, of), filled(9, of)]
        batch = [one.merge([one, other]) for one, other in zip(*rows, strict=True)]
        pieces = (Piece(1, 0, 4), Piece(2, 4, 9))
        store.keep(BatchRow(batch, 1, range(9)), pieces, 3)
        assert store.nbytes == layout.spec.block_bytes(9) + layout.spec.snapshot_bytes(9)
        for number in (1, 2, 3):
            parcel = store.export(number)
            store.drop([number])
            store.install(number, parcel)
        back = Opening(store, layout).caches(fresh(), Prefix(9, pieces, 3), 5)
        return contents([one.merge([one]) for one in back], 9), contents(rows[1], 9)

    found, expected = in_a_thread(whole)
    assert found == expected


def test_a_prefix_needs_its_blocks_and_its_snapshot() -> None:
    """What is missing, too short or of another position is told before a row is taken."""
    import mlx.core as mx

    from workers.backends.blocks import BlockStore
    from workers.backends.layout import Layout
    from workers.backends.opening import Opening
    from workers.backends.rows import BatchRow

    def whole() -> None:
        layout = Layout.measure(filled(1, mx.float32), bits=0)
        store, row = BlockStore(layout), filled(9, mx.float32)
        held = BatchRow([one.merge([one]) for one in row], 0, range(9))
        store.keep(held, [Piece(1, 0, 9)], 3)
        opening = Opening(store, layout)
        with pytest.raises(KeyError):
            opening.caches(fresh(), Prefix(9, (Piece(2, 0, 9),), 3), 1)
        with pytest.raises(ValueError, match="block 1 holds no 10 tokens"):
            opening.caches(fresh(), Prefix(10, (Piece(1, 0, 10),), 3), 1)
        with pytest.raises(ValueError, match="9 tokens without the snapshot"):
            opening.caches(fresh(), Prefix(9, (Piece(1, 0, 9),)), 1)
        with pytest.raises(ValueError, match="a snapshot behind 9 tokens for 8"):
            opening.caches(fresh(), Prefix(8, (Piece(1, 0, 8),), 3), 1)
        with pytest.raises(ValueError, match="tokens 3 to 10 of a row that holds 9"):
            store.keep(held, [Piece(5, 0, 3), Piece(6, 3, 10)], None)
        with pytest.raises(ValueError, match=r"blocks \[1\] exist already"):
            store.keep(held, [Piece(1, 0, 3), Piece(6, 3, 9)], None)
        store.check_integrity([1, 3])

    in_a_thread(whole)


def test_a_block_keeps_no_more_memory_than_its_own() -> None:
    """It is a copy, also of a single layer's array that could be cut out of the batch's."""
    import mlx.core as mx
    from mlx_lm.models.cache import KVCache

    from workers.backends.blocks import BlockStore
    from workers.backends.layout import Layout
    from workers.backends.rows import BatchRow

    def held(tokens: int) -> Any:
        kinds: Any = KVCache  # without types
        leaf = kinds()
        leaf.update_and_fetch(mx.ones((1, 1, tokens, 8)), mx.ones((1, 1, tokens, 4)))
        return leaf

    def whole() -> tuple[int, int]:
        store = BlockStore(Layout.measure([held(1)], bits=0))
        before = mx.get_active_memory()
        leaf = held(100_000)
        store.keep(BatchRow([leaf.merge([leaf])], 0, range(100_000)), [Piece(1, 0, 10)], None)
        del leaf
        return store.nbytes, mx.get_active_memory() - before

    own, taken = in_a_thread(whole)
    assert own == 10 * (8 + 4) * 4
    assert taken < 100_000


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_goes_to_bytes_and_back(name: str) -> None:
    """The bytes are those of the numbers, in row-major order."""
    import mlx.core as mx

    def whole() -> tuple[Tensor, bool]:
        array = mx.arange(24).reshape(2, 3, 4).astype(DTYPES[name])
        tensor = to_tensor(array)
        return tensor, bool(mx.array_equal(to_array(tensor), array).item())

    tensor, same = in_a_thread(whole)
    assert same
    assert (tensor.dtype, tensor.shape, len(tensor.data)) == (name, (2, 3, 4), 24 * DTYPES[name].size)

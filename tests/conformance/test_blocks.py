"""What every backend does alike with blocks: cached beginnings of rows, kept, dropped, and as bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from models.requests import Sampling
from tests.workers.backends.llms import SETTINGS, Apart, decode
from workers.backends.fake import FakeBackend, FakeOptions
from workers.cache.parcel import Parcel
from workers.cache.prefix import Piece, Prefix
from workers.engine import OutOfMemory, Row

from .rows import PIECE, messages, row

TEXT = "the gate lets the water through, and the wheel turns: " * 8


def prefix_of(backend: Apart, stop: int, first: int = 1) -> Prefix:
    """So many tokens in blocks of 32 and what is left, the snapshot behind them."""
    edges = [*range(0, stop, 32), stop]
    pieces = tuple(Piece(first + n, *pair) for n, pair in enumerate(pairwise(edges)))
    return Prefix(stop, pieces, None if backend.info.spec.can_be_cut else first + len(pieces))


def numbers(prefix: Prefix) -> list[int]:
    """The blocks of a prefix."""
    snapshot = [] if prefix.snapshot is None else [prefix.snapshot]
    return [*(piece.block for piece in prefix.pieces), *snapshot]


def read_to(backend: Apart, wanted: Row, stop: int) -> int:
    """Add a row and step until its prompt has been read up to one of its stops; returns its uid."""
    (uid,) = backend.add([wanted])
    while dict(backend.step(PIECE).read)[uid] != stop:
        pass
    return int(uid)


def cached(backend: Apart, stop: int, text: str = TEXT, first: int = 1) -> Prefix:
    """Have a row computed up to a position and keep that."""
    uid = read_to(backend, row(backend, text, stops=(stop,)), stop)
    prefix = prefix_of(backend, stop, first)
    backend.keep(uid, prefix.pieces, prefix.snapshot)
    backend.remove([uid])
    return prefix


def test_a_conversation_can_be_parted_where_its_messages_end(backend: Apart) -> None:
    """Behind the system message and the last one, for layers that cannot be cut; others need no place."""
    turns = messages("be brief", "one", "1", "two")
    tokens = backend.encode(turns)
    places = backend.boundaries(turns, tokens)
    if backend.info.spec.can_be_cut:
        assert places == []
        return
    system, last = places
    other = backend.encode(messages("be brief", "quite another"))
    assert tokens[:system] == other[:system]
    assert tokens[system:] != other[system:]
    following = backend.encode((*turns, *messages("", "", "2", "three")[2:]))
    assert following[:last] == tokens[:last]
    assert 0 < system < last < len(tokens)
    alone = backend.encode(turns[1:2])
    assert len(backend.boundaries(turns[1:2], alone)) == 1


@pytest.mark.parametrize("most", [1, 7, 50])
def test_a_piece_is_no_longer_than_asked(backend: Apart, most: int) -> None:
    """A step reads so many tokens of a prompt at most, and says how many of it are in the cache."""
    wanted = row(backend, TEXT)
    (uid,) = backend.add([wanted])
    before = 0
    tokens: list[Any] = []
    while not tokens:
        result = backend.step(most)
        assert 0 <= result.prefilled <= most
        before, tokens = before + result.prefilled, result.tokens
        assert result.read == ([(uid, before)] if before < len(wanted.tokens) else [])
        assert backend.computed(uid) == before + len(tokens) or (tokens and backend.computed(uid) == before)
    assert before == len(wanted.tokens)


def test_no_piece_reaches_across_a_stop(backend: Apart) -> None:
    """Each stop is the end of a piece, whatever lies between."""
    stops = (1, 5, 40, 41, 90)
    (uid,) = backend.add([row(backend, TEXT, stops=stops)])
    reads = []
    while not (result := backend.step(PIECE)).tokens:
        reads += [read for other, read in result.read if other == uid]
    assert set(stops) <= set(reads)


def test_a_row_computes_only_what_is_behind_its_prefix(backend: Apart) -> None:
    """The tokens of the prefix are there before the first step, and are not counted as computed."""
    prefix = cached(backend, 70)
    wanted = row(backend, TEXT, prefix=prefix, max_new=4, temperature=1, seed=3)
    (uid,) = backend.add([wanted])
    assert backend.computed(uid) == 70
    backend.check_integrity({uid: wanted.tokens}, numbers(prefix))
    prefilled, made = 0, 0
    while made < 4:
        result = backend.step(PIECE)
        prefilled += result.prefilled
        made += len(result.tokens)
        assert result.read == [] or result.read[0] == (uid, 70 + prefilled)
        assert [end for *_, end in result.tokens] in ([], [None], ["length"])
    assert prefilled == len(wanted.tokens) - 70


def test_a_prefix_may_lack_a_single_token(backend: Apart) -> None:
    """All but the last token of a prompt is cached: one step and the row decodes."""
    tokens = backend.encode(messages(TEXT))[:70]
    prefix = cached(backend, 69)
    (uid,) = backend.add([Row(tokens, 0, 3, Sampling(), prefix)])
    first, second = backend.step(PIECE), backend.step(PIECE)
    assert (first.prefilled, second.prefilled) == (1, 0)
    assert [other for other, _, _ in (*first.tokens, *second.tokens)] == [uid]


def test_the_last_block_may_be_cut(backend: Apart) -> None:
    """Of a prefix that was kept, less serves a row with less in common, where layers can be cut."""
    if not backend.info.spec.can_be_cut:
        return
    whole = cached(backend, 70)
    pieces = (*whole.pieces[:1], replace(whole.pieces[1], stop=45))
    wanted = row(backend, TEXT, prefix=Prefix(45, pieces))
    (uid,) = backend.add([wanted])
    assert backend.computed(uid) == 45
    assert len(decode(backend, [uid])[uid]) <= 8


def test_rows_with_and_without_prefixes_join_and_leave(backend: Apart) -> None:
    """Whatever stands beside whatever, each row holds its own tokens at every step."""
    short, long = cached(backend, 20), cached(backend, 150, first=20)
    texts = [row(backend, TEXT, prefix=long, max_new=9), row(backend, TEXT, prefix=short, max_new=3)]
    texts += [row(backend, "cold", max_new=20), row(backend, TEXT[:90], prefix=short, max_new=20)]
    rows: dict[int, list[int]] = {}
    for late in (texts[:3], texts[3:], texts[:1]):
        rows |= {uid: list(one.tokens) for uid, one in zip(backend.add(late), late, strict=True)}
        for _ in range(4):
            for uid, token, end in backend.step(PIECE).tokens:
                rows[uid].append(token)
                if end is not None:
                    del rows[uid]
            backend.check_integrity(rows, [*numbers(short), *numbers(long)])


def test_bytes_stay_within_the_promise_beside_a_long_prefix(backend: Apart) -> None:
    """A row that is read slowly behind a long prefix does not push those beside it ever wider."""
    tokens, info = backend.encode(messages(TEXT * 6))[:700], backend.info
    prefix = cached(backend, 600, TEXT * 6)
    slow = Row(tokens, 0, 2, Sampling(), prefix, tuple(range(604, 700, 4)))
    live = set(backend.add([slow, Row(tokens, 0, 2, Sampling())]))
    while live:
        live -= {uid for uid, _, end in backend.step(64).tokens if end is not None}
        assert backend.live_bytes() <= len(live) * info.spec.sequence_bytes(702 + info.growth)


def test_blocks_may_be_dropped_once_their_rows_are_added(backend: Apart) -> None:
    """A row that waits to be read goes on without the blocks that it begins with."""
    prefix = cached(backend, 70)
    wanted = row(backend, TEXT, prefix=prefix, max_new=4, temperature=1, seed=3)
    uids = backend.add([wanted] * (SETTINGS.prefill_rows + 2))
    backend.drop([*numbers(prefix), 4711])
    backend.check_integrity(dict.fromkeys(uids, wanted.tokens), [])
    assert backend.pool_bytes() == 0
    made = decode(backend, uids)
    assert all(made[uid] for uid in uids)


def test_a_row_holds_the_tokens_that_were_told(backend: Apart) -> None:
    """Waiting, reading, decoding, and when it has just ended, with the token that ended it.

    Only the first token may be told before it is in the cache.
    """
    wanted = row(backend, TEXT, max_new=5, temperature=1, seed=2)
    (uid,) = backend.add([wanted])
    assert backend.computed(uid) == 0
    told, ends = 0, [None]
    while ends in ([], [None]):
        ends = [end for *_, end in backend.step(PIECE).tokens]
        told += len(ends)
        held = backend.computed(uid) - len(wanted.tokens)
        assert held == told or held < 0 == told or (held, told, ends) == (0, 1, [None])
    assert held == told
    with pytest.raises(KeyError):
        backend.computed(uid + 1)


def ended(backend: Apart) -> tuple[int, int]:
    """A row that has just ended, and the tokens that it holds."""
    (uid,) = backend.add([row(backend, TEXT, max_new=2, temperature=1, seed=2)])
    decode(backend, [uid])
    return uid, backend.computed(uid)


def test_a_row_that_ended_can_be_kept(backend: Apart) -> None:
    """Its reply is cached with its prompt, and serves the turn behind it."""
    uid, held = ended(backend)
    prefix = prefix_of(backend, held)
    backend.keep(uid, prefix.pieces, prefix.snapshot)
    backend.check_integrity({}, numbers(prefix))


@pytest.mark.parametrize("then", ["step", "add", "remove", "reset"])
def test_a_row_that_ended_is_gone_with_the_next_call(backend: Apart, then: str) -> None:
    """What it held is given back, so it is unknown from then on, as a row that never was."""
    uid, held = ended(backend)
    arguments: dict[str, tuple[Any, ...]] = {"step": (PIECE,), "add": ([],), "remove": ([],), "reset": ()}
    getattr(backend, then)(*arguments[then])
    with pytest.raises(KeyError):
        backend.keep(uid, prefix_of(backend, held).pieces)
    with pytest.raises(KeyError):
        backend.keep(4711, prefix_of(backend, 3).pieces)


def test_blocks_take_their_bytes(backend: Apart) -> None:
    """As the specification counts them, one by one."""
    cached(backend, 70)
    spec = backend.info.spec
    snapshot = 0 if spec.can_be_cut else spec.snapshot_bytes(70)
    assert backend.pool_bytes() == spec.block_bytes(32) * 2 + spec.block_bytes(6) + snapshot
    backend.drop([1])
    assert backend.pool_bytes() == spec.block_bytes(32) + spec.block_bytes(6) + snapshot


def test_blocks_outlive_the_batch(backend: Apart) -> None:
    """A reset throws rows away, not blocks, and they serve as before."""
    prefix = cached(backend, 70)
    backend.reset()
    backend.check_integrity({}, numbers(prefix))
    (uid,) = backend.add([row(backend, TEXT, prefix=prefix, max_new=2)])
    assert decode(backend, [uid])[uid]


def test_integrity_means_these_blocks(backend: Apart) -> None:
    """A block too many and one too few are noticed."""
    prefix = cached(backend, 70)
    backend.check_integrity({}, numbers(prefix))
    with pytest.raises(AssertionError):
        backend.check_integrity({}, numbers(prefix)[1:])
    with pytest.raises(AssertionError):
        backend.check_integrity({}, [*numbers(prefix), 77])


def test_a_block_comes_back_from_its_bytes(backend: Apart) -> None:
    """Out and in again it is the same, as large as it was told, and serves as before."""
    prefix = cached(backend, 70)
    parcels, total = {number: backend.export(number) for number in numbers(prefix)}, backend.pool_bytes()
    backend.drop(parcels)
    with pytest.raises(KeyError):
        backend.export(1)
    for number, parcel in parcels.items():
        backend.install(number, parcel)
        assert backend.export(number) == parcel
    assert backend.pool_bytes() == total
    assert total <= sum(parcel.nbytes for parcel in parcels.values()) <= total + 8
    (uid,) = backend.add([row(backend, TEXT, prefix=prefix, max_new=2)])
    assert decode(backend, [uid])[uid]


def spoilt(parcel: Parcel) -> list[Parcel]:
    """A parcel with each of its arrays missing, renamed, retyped, reshaped and cut short."""
    found = [Parcel({**parcel.tensors, "more": next(iter(parcel.tensors.values()))})]
    for name, tensor in parcel.tensors.items():
        others = {other: one for other, one in parcel.tensors.items() if other != name}
        found.append(Parcel(others))
        found.append(Parcel({**others, f"{name}s": tensor}))
        changed = [
            replace(tensor, dtype="I16"),
            replace(tensor, shape=(*tensor.shape[:-1], tensor.shape[-1] + 1)),
            replace(tensor, data=tensor.data[:-1]),
        ]
        found += [Parcel({**others, name: other}) for other in changed]
    return found


def test_foreign_bytes_are_refused(backend: Apart) -> None:
    """What is not exactly this LLM's makes no block."""
    prefix = cached(backend, 70)
    for number in (1, numbers(prefix)[-1]):
        for parcel in spoilt(backend.export(number)):
            with pytest.raises(ValueError, match=r"where|size|view|shape"):
                backend.install(50, parcel)
    backend.check_integrity({}, numbers(prefix))


def starve(inner: Any) -> Any:
    """Take the memory for blocks away; returns what gives it back."""
    if isinstance(inner, FakeBackend):
        before, inner.faults = inner.faults, FakeOptions(memory_blocks=2)

        def feed() -> None:
            inner.faults = before
    else:
        import mlx.core as mx

        def fail(*arrays: Any) -> None:
            raise RuntimeError("[malloc] Unable to allocate 1073741824 bytes.")

        patch = pytest.MonkeyPatch()
        patch.setattr(mx, "eval", fail)
        feed = patch.undo
    return feed


def test_without_memory_no_block_is_made(backend: Apart) -> None:
    """Keeping and installing say so, leave nothing behind, and work again when there is room."""
    prefix = cached(backend, 20)
    parcel = backend.export(1)
    uid, held = ended(backend)
    wanted = prefix_of(backend, held, first=20)
    feed = backend.do(starve)
    try:
        with pytest.raises(OutOfMemory):
            backend.keep(uid, wanted.pieces, wanted.snapshot)
        backend.check_integrity({}, numbers(prefix))
    finally:
        backend.do(lambda _: feed())
    backend.keep(uid, wanted.pieces, wanted.snapshot)
    backend.install(9, parcel)
    backend.check_integrity({}, [*numbers(prefix), *numbers(wanted), 9])

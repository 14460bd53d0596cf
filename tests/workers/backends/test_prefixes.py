"""A cached prefix changes speed, never meaning: tokens behind it are judged as if all had been computed.

With LLMs of several architectures and fixed random weights, whose scores are
compared; the tokens themselves only with the trained pico, in test_mlx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from models.requests import Sampling
from workers.cache.prefix import NOTHING, Piece, Prefix
from workers.engine import Row

from .llms import CONFIG, GEMMA, LFM, QWEN, SETTINGS, Apart, apart, save_tiny_llm
from .scores import Heard, listening, read_to

CLOSE = 2e-3
"""Of log-probabilities: float32 in another order, through layers that swing widely on random weights."""

TEXT = [(7 * n * n + 3 * n) % 380 + 4 for n in range(400)]
LLMS: dict[str, dict[str, Any]] = {"llama": CONFIG, "gemma": GEMMA, "lfm": LFM, "qwen": QWEN}


@pytest.fixture(scope="module", params=LLMS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """A tiny LLM of each architecture."""
    backend = apart("mlx", save_tiny_llm(tmp_path_factory.mktemp("llm"), config=LLMS[request.param]))
    yield backend
    backend.close()


@pytest.fixture
def llm(loaded: Apart) -> Iterator[Apart]:
    """It without rows or blocks, before and behind the test."""
    yield loaded
    loaded.reset()
    loaded.drop(range(1000))
    loaded.check_integrity({}, [])
    assert (loaded.live_bytes(), loaded.pool_bytes()) == (0, 0)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """What all rows of the test are judged by."""
    with listening(monkeypatch) as heard:
        yield heard


def row(tokens: Sequence[int], prefix: Prefix = NOTHING, stops: Sequence[int] = (), max_new: int = 5) -> Row:
    """A greedy row."""
    return Row(tokens, 0, max_new, Sampling(), prefix, stops)


def prefix_of(backend: Apart, stop: int, first: int = 1) -> Prefix:
    """So many tokens in blocks of 50 and what is left, the snapshot behind them."""
    edges = [*range(0, stop, 50), stop]
    pieces = tuple(Piece(first + n, *pair) for n, pair in enumerate(pairwise(edges)))
    return Prefix(stop, pieces, None if backend.info.spec.can_be_cut else first + len(pieces))


def keep(backend: Apart, uid: int, stop: int, first: int = 1) -> Prefix:
    """Keep what a row has computed, which is so many tokens."""
    assert backend.computed(uid) == stop
    kept = prefix_of(backend, stop, first)
    backend.keep(uid, kept.pieces, kept.snapshot)
    return kept


def read(backend: Apart, tokens: Sequence[int], stop: int, first: int = 1) -> Prefix:
    """Read a prompt up to ``stop``, keep that and let the row go."""
    uid = read_to(backend, row(tokens, stops=[stop]), stop)
    kept = keep(backend, uid, stop, first)
    backend.remove([uid])
    return kept


def judged(backend: Apart, heard: Heard, one: Row) -> int:
    """Run a row alone."""
    (uid,) = backend.add([one])
    heard.run(backend, [uid])
    return int(uid)


@pytest.mark.parametrize("stop", [3, 24, 50, 171])
def test_a_row_goes_on_from_what_was_kept_while_a_prompt_was_read(
    llm: Apart, heard: Heard, stop: int
) -> None:
    """Blocks and snapshot of a prompt read so far serve rows with this beginning, whatever follows."""
    kept = read(llm, TEXT[:200], stop)
    for tokens in (TEXT[:200], [*TEXT[:stop], *TEXT[300:340]], [*TEXT[:stop], 77]):
        warm = judged(llm, heard, row(tokens, kept))
        assert heard.furthest(warm, judged(llm, heard, row(tokens))) < CLOSE


@pytest.mark.parametrize("loaded", ["llama"], indirect=True)
@pytest.mark.parametrize("stop", [1, 49, 51, 252])
def test_blocks_can_be_cut(llm: Apart, heard: Heard, stop: int) -> None:
    """Less than what was kept serves a row with less in common, where all layers can be cut."""
    whole = [piece for piece in read(llm, TEXT[:310], 300).pieces if piece.start < stop]
    cut = Prefix(stop, (*whole[:-1], replace(whole[-1], stop=stop)))
    prompts = [[*TEXT[:stop], *tail] for tail in (TEXT[300:303], TEXT[300:301])]
    together = llm.add([row(tokens, cut) for tokens in prompts])
    heard.run(llm, together)
    for uid, tokens in zip(together, prompts, strict=True):
        cold, alone = judged(llm, heard, row(tokens)), judged(llm, heard, row(tokens, cut))
        assert heard.furthest(uid, cold) < CLOSE
        assert heard.furthest(alone, cold) < CLOSE


def test_blocks_take_what_the_specification_says(llm: Apart) -> None:
    """Measured bytes of whole and partial blocks and of snapshots, shorter and longer than any window."""
    spec, total = llm.info.spec, 0
    for stop in (10, 170):
        kept = read(llm, TEXT[:200], stop, first=stop)
        total += sum(spec.block_bytes(piece.stop - piece.start) for piece in kept.pieces)
        total += spec.snapshot_bytes(stop)
        assert llm.pool_bytes() == total


def test_the_next_turn_goes_on_from_the_end_of_the_last(llm: Apart, heard: Heard) -> None:
    """What a row held when it ended, its own reply included, serves the turn behind it."""
    tokens = TEXT[:60]
    first = judged(llm, heard, row(tokens, max_new=40))
    held = [*tokens, *heard.tokens[first]]
    kept = keep(llm, first, len(held))
    second = [*held, *TEXT[100:130]]
    warm = judged(llm, heard, row(second, kept))
    assert heard.furthest(warm, judged(llm, heard, row(second))) < CLOSE


def test_rows_can_be_kept_in_the_midst_of_a_batch(llm: Apart, heard: Heard) -> None:
    """While others of unlike length join, decode and leave, each row's own tokens are kept."""
    uids = llm.add([row(TEXT[:150], max_new=3), row(TEXT[7:30], max_new=50)])
    heard.run(llm, uids[:1])
    uids += llm.add([row(TEXT[9:90], max_new=30)])
    while len(heard.tokens.get(uids[2], [])) < 9:
        heard.step(llm)
    for number, (uid, prompt) in enumerate(((uids[1], TEXT[7:30]), (uids[2], TEXT[9:90])), 1):
        held = [*prompt, *heard.tokens[uid]]
        kept = keep(llm, uid, len(held), 10 * number)
        llm.remove([uid])
        warm = judged(llm, heard, row([*held, 88, 99], kept))
        assert heard.furthest(warm, judged(llm, heard, row([*held, 88, 99]))) < CLOSE


def test_rows_with_unlike_prefixes_decode_together(llm: Apart, heard: Heard) -> None:
    """Long and short prefixes, none at all, and tails of any length stand in one batch without a trace."""
    asked = [(200, 171), (130, 30), (91, 90), (60, 0), (171, 50)]
    cold = [judged(llm, heard, row(TEXT[:length], max_new=12)) for length, _ in asked]
    kept = [read(llm, TEXT[:200], stop, 10 * n) if stop else NOTHING for n, (_, stop) in enumerate(asked, 1)]
    rows = [row(TEXT[:length], one, max_new=12) for (length, _), one in zip(asked, kept, strict=True)]
    uids = llm.add(rows[:4])
    llm.drop(range(50))
    while not heard.tokens.get(uids[2]):
        heard.step(llm)
    uids += llm.add([rows[4]])
    heard.run(llm, uids)
    for uid, alone in zip(uids, cold, strict=True):
        assert heard.furthest(uid, alone) < CLOSE


def test_a_block_comes_back_from_bytes_as_it_was(llm: Apart, heard: Heard) -> None:
    """Out and in again its bytes are the same, and so is what a row makes of it."""
    kept = read(llm, TEXT[:200], 70)
    before = judged(llm, heard, row(TEXT[:80], kept))
    numbers = [*(piece.block for piece in kept.pieces), *([kept.snapshot] if kept.snapshot else [])]
    parcels, total = {number: llm.export(number) for number in numbers}, llm.pool_bytes()
    llm.drop(numbers)
    assert llm.pool_bytes() == 0
    for number, parcel in parcels.items():
        llm.install(number, parcel)
        assert llm.export(number) == parcel
    assert llm.pool_bytes() == total
    after = judged(llm, heard, row(TEXT[:80], kept))
    assert (heard.tokens[after], heard.scores[after]) == (heard.tokens[before], heard.scores[before])


def test_rows_of_a_stopped_prompt_are_read_beside_others(llm: Apart, heard: Heard) -> None:
    """A stop in one prompt parts its pieces, not those beside it, and none is judged otherwise for it."""
    cold = [judged(llm, heard, row(TEXT[:length])) for length in (150, 90)]
    uids = llm.add([row(TEXT[:150], stops=[5, 40, 149]), row(TEXT[:90])])
    reads: list[int] = []
    while not heard.scores.keys() >= set(uids):
        reads += [read for uid, read in llm.step(32).read if uid == uids[0]]
    assert reads == [5, 37, 40, 72, 104, 136, 149]
    for uid, alone in zip(uids, cold, strict=True):
        assert heard.first(uid, alone) < CLOSE


@pytest.mark.parametrize("config", [CONFIG, GEMMA], ids=["llama", "gemma"])
@pytest.mark.parametrize(("bits", "close"), [(8, 0.3), (4, 5.0)])
def test_quantized_blocks_are_smaller_and_nearly_the_same(
    heard: Heard, tmp_path: Path, config: dict[str, Any], bits: Literal[8, 4], close: float
) -> None:
    """Scores behind them differ a little, and they come back from bytes as they were."""
    llm = apart(
        "mlx", save_tiny_llm(tmp_path, config=config), SETTINGS.model_copy(update={"pool_bits": bits})
    )
    try:
        kept, spec = read(llm, TEXT[:200], 130), llm.info.spec
        snapshot = 0 if kept.snapshot is None else spec.snapshot_bytes(130)
        assert llm.pool_bytes() == spec.block_bytes(130) + snapshot < 130 * spec.token_bytes / 3 + snapshot
        warm, cold = judged(llm, heard, row(TEXT[:140], kept)), judged(llm, heard, row(TEXT[:140]))
        assert 0 < heard.first(warm, cold) < close
        parcel = llm.export(kept.pieces[0].block)
        llm.drop([kept.pieces[0].block])
        llm.install(kept.pieces[0].block, parcel)
        again = judged(llm, heard, row(TEXT[:140], kept))
        assert heard.scores[again] == heard.scores[warm]
    finally:
        llm.close()

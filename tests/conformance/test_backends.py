"""What every backend does alike: the deterministic twin, and MLX with tiny LLMs of random weights."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workers.backends.llms import SETTINGS, Apart, decode
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import OutOfMemory

from .rows import PIECE, messages, row

TEXT = "the gate lets 42 tons of water through: été 日本 🌊!"


def test_what_is_known_of_the_llm(backend: Apart) -> None:
    """Context, vocabulary, ends and sizes are there and agree with each other."""
    info = backend.info
    assert info.context_length >= 1024
    assert len(info.fingerprint) == 64
    assert info.eos_ids
    assert all(0 <= token < info.vocab_size for token in info.eos_ids)
    assert info.spec.token_bytes > 0


def test_a_conversation_becomes_tokens(backend: Apart) -> None:
    """The same tokens each time, every turn in them, and more for a longer conversation."""
    long = backend.encode(messages("be brief", "one", "1", "two"))
    assert long == backend.encode(messages("be brief", "one", "1", "two"))
    assert len(long) > len(backend.encode(messages("be brief", "one")))
    assert all(0 <= token < backend.info.vocab_size for token in long)


def test_text_comes_back_in_whole_characters(backend: Apart) -> None:
    """A text's tokens give the text again, never half a character."""
    empty, whole = backend.encode(messages("")), backend.encode(messages(TEXT))
    tokens = whole[1 : len(whole) - len(empty) + 1]
    detokenizer = backend.inner.detokenizer()
    pieces = [detokenizer.push(token) for token in tokens]
    assert "".join(pieces) + detokenizer.flush() == TEXT
    assert "\ufffd" not in "".join(pieces)


def test_detokenizers_do_not_share_a_row(backend: Apart) -> None:
    """Two rows can be turned into text side by side."""
    tokens = backend.encode(messages("water"))[1:-1]
    one, other = backend.inner.detokenizer(), backend.inner.detokenizer()
    pairs = [(one.push(token), other.push(token)) for token in tokens]
    assert all(left == right for left, right in pairs)


def test_each_row_has_its_own_length(backend: Apart) -> None:
    """Rows end after max_new tokens each, get at most one token a step, and are gone then."""
    uids = backend.add([row(backend, f"row {n}", max_new=n + 1, temperature=1, seed=n) for n in range(6)])
    assert len(set(uids)) == 6
    made = dict.fromkeys(uids, 0)
    while any(made[uid] < n + 1 for n, uid in enumerate(uids)):
        result = backend.step(PIECE)
        assert len({uid for uid, _, _ in result.tokens}) == len(result.tokens)
        for uid, _, end in result.tokens:
            made[uid] += 1
            assert end in ({"length", "stop"} if made[uid] == uids.index(uid) + 1 else {None, "stop"})
            if end == "stop":
                made[uid] = uids.index(uid) + 1
    backend.check_integrity({}, [])


def test_rows_join_at_any_step(backend: Apart) -> None:
    """A row added while others decode decodes with them."""
    (early,) = backend.add([row(backend, "early", max_new=60, temperature=1, seed=3)])
    while not backend.step(PIECE).tokens:
        pass
    (late,) = backend.add([row(backend, "late", max_new=4, temperature=1, seed=4)])
    together = [{uid for uid, _, _ in backend.step(PIECE).tokens} for _ in range(8)]
    assert {early, late} in together


def test_prompts_are_read_piece_by_piece(backend: Apart) -> None:
    """A long prompt takes several steps while others decode, and each of its tokens counts once."""
    (short,) = backend.add([row(backend, "x", max_new=50, temperature=1, seed=1)])
    while not backend.step(PIECE).tokens:
        pass
    long = row(backend, TEXT * 6, max_new=2)
    (uid,) = backend.add([long])
    read, decoded, first = 0, 0, False
    while not first:
        result = backend.step(PIECE)
        read += result.prefilled
        decoded += short in {other for other, _, _ in result.tokens}
        first = uid in {other for other, _, _ in result.tokens}
    assert read == len(long.tokens)
    assert decoded >= len(long.tokens) // 32


def test_few_prompts_are_read_at_a_time(backend: Apart) -> None:
    """A step reads a piece of at most prefill_rows prompts: decoding rows wait for no more."""
    rows = [row(backend, TEXT * 6, max_new=2) for _ in range(6)]
    uids = backend.add(rows)
    assert 0 < backend.step(PIECE).prefilled <= SETTINGS.prefill_rows * SETTINGS.prefill_tokens
    assert set(decode(backend, uids)) == set(uids)


def test_rows_can_be_removed_at_any_stage(backend: Apart) -> None:
    """A row waiting, reading or decoding goes at once; the others stay as they were."""
    decoding = backend.add([row(backend, f"{n}", max_new=90, temperature=1, seed=n) for n in range(3)])
    tokens: dict[int, list[int]] = {uid: [] for uid in decoding}
    for _ in range(4):
        for uid, token, _ in backend.step(PIECE).tokens:
            tokens[uid].append(token)
    reading = backend.add([row(backend, TEXT * 9, max_new=9) for _ in range(6)])
    for uid, token, _ in backend.step(PIECE).tokens:
        tokens[uid].append(token)
    backend.remove([decoding[1], reading[0], reading[5]])
    backend.remove([decoding[1], 12345])
    held = {uid: backend.encode(messages(f"{n}")) + tokens[uid] for n, uid in enumerate(decoding) if n != 1}
    held |= {uid: backend.encode(messages(TEXT * 9)) for uid in reading[1:5]}
    backend.check_integrity(held, [])
    assert {uid for uid, _, _ in backend.step(PIECE).tokens} == {decoding[0], decoding[2]}


def test_integrity_means_these_rows_and_these_tokens(backend: Apart) -> None:
    """A row too many, one too few, and a foreign token are noticed."""
    wanted = row(backend, "a", max_new=9)
    uid, other = backend.add([wanted, wanted])
    while not backend.step(PIECE).tokens:
        pass
    with pytest.raises(AssertionError):
        backend.check_integrity({uid: [*wanted.tokens, *range(9)]}, [])
    backend.remove([other])
    with pytest.raises(AssertionError):
        backend.check_integrity({}, [])
    with pytest.raises(AssertionError):
        backend.check_integrity({uid: list(wanted.tokens), uid + 1: [1]}, [])
    with pytest.raises(AssertionError):
        backend.check_integrity({uid: [wanted.tokens[0] ^ 1, *wanted.tokens[1:], 0, 0, 0]}, [])


def test_a_reset_forgets_all_rows_and_goes_on(backend: Apart) -> None:
    """After a reset nothing is held, and new rows decode."""
    backend.add([row(backend, f"{n}", max_new=50) for n in range(5)])
    backend.step(PIECE)
    backend.step(PIECE)
    backend.reset()
    backend.check_integrity({}, [])
    assert backend.live_bytes() == 0
    (uid,) = backend.add([row(backend, "again", max_new=3, temperature=1, seed=1)])
    assert decode(backend, [uid])[uid]


def test_bytes_stay_within_the_promise(backend: Apart) -> None:
    """At every step the caches take no more than rows x (longest row + growth) tokens."""
    info = backend.info
    rows = [row(backend, "x" * (11 * n), max_new=5 + 13 * n, temperature=1, seed=n) for n in range(8)]
    length = {uid: len(one.tokens) + one.max_new for uid, one in zip(backend.add(rows), rows, strict=True)}
    peak = 0
    while length:
        live, longest = len(length), max(length.values())
        result = backend.step(PIECE)
        for uid, _, end in result.tokens:
            if end is not None:
                del length[uid]
        peak = max(peak, backend.live_bytes())
        assert backend.live_bytes() <= live * info.spec.sequence_bytes(longest + info.growth)
    assert peak > 0


def test_a_seed_means_the_same_tokens_in_any_company(backend: Apart) -> None:
    """A seeded row has the same tokens alone, in a crowd, and joining late; another seed has others."""
    wanted = row(backend, "draw", max_new=30, temperature=1.0, top_p=0.95, seed=7)
    (uid,) = backend.add([wanted])
    alone = decode(backend, [uid])[uid]
    crowd = [row(backend, f"{n}", max_new=9 + n, temperature=n / 4, seed=n) for n in range(6)]
    backend.add(crowd[:3])
    backend.step(PIECE)
    backend.step(PIECE)
    backend.step(PIECE)
    uid, other, *_ = backend.add(
        [wanted, row(backend, "draw", max_new=30, temperature=1.0, top_p=0.95, seed=8), *crowd[3:]]
    )
    tokens = decode(backend, [uid, other])
    assert tokens[uid] == alone
    assert tokens[other] != alone


def test_a_seeded_row_goes_on_from_its_prior_tokens(backend: Apart) -> None:
    """Interrupted and added again with what it had generated, it generates what it would have."""
    (uid,) = backend.add([row(backend, "draw", max_new=20, temperature=1.0, seed=11)])
    whole = decode(backend, [uid])[uid]
    rest = row(backend, "draw", max_new=20 - 8, prior=whole[:8], temperature=1.0, seed=11)
    (uid,) = backend.add([rest])
    assert whole[:8] + decode(backend, [uid])[uid] == whole


def test_without_a_seed_draws_differ(backend: Apart) -> None:
    """One prompt gives several texts at temperature 1, and a single one at temperature 0."""
    drawn = backend.add([row(backend, "same", max_new=12, temperature=1.0) for _ in range(4)])
    likeliest = backend.add([row(backend, "same", max_new=12, temperature=0, seed=n) for n in range(4)])
    tokens = decode(backend, [*drawn, *likeliest])
    assert len({tuple(tokens[uid]) for uid in drawn}) > 1
    assert len({tuple(tokens[uid]) for uid in likeliest}) == 1


def starve(inner: Any) -> None:
    """Take the device's memory away from a backend, until its next reset or longer."""
    if isinstance(inner, FakeBackend):
        inner.faults = FakeOptions(memory_rows=1)
        return

    def fail() -> None:
        raise RuntimeError("[malloc] Unable to allocate 1073741824 bytes.")

    inner._batch._generator.next = fail


def feed(inner: Any) -> None:
    """Give it back."""
    if isinstance(inner, FakeBackend):
        inner.faults = FakeOptions()


def test_a_shortage_of_memory_has_its_own_error(backend: Apart) -> None:
    """A step without memory says so; after a reset a smaller batch decodes what it would have."""
    wanted = row(backend, "a", max_new=12, temperature=1, seed=3)
    (uid,) = backend.add([wanted])
    alone = decode(backend, [uid])[uid]
    backend.add([wanted, row(backend, "b")])
    backend.step(PIECE)
    backend.do(starve)
    try:
        with pytest.raises(OutOfMemory):
            backend.step(PIECE)
        backend.reset()
        (uid,) = backend.add([wanted])
        assert decode(backend, [uid])[uid] == alone
    finally:
        backend.do(feed)

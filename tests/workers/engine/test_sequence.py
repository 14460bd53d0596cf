"""A row's text: whole characters, stop strings, and tokens of earlier attempts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.backends.fake_tokens import ByteDetokenizer
from workers.engine.outputs import Delta
from workers.engine.sequence import Sequence

from .batches import job


def sequence(prior: bytes = b"", **sampling: Any) -> Sequence:
    """A row that has generated ``prior`` in an earlier attempt."""
    return Sequence(job("a", prior=list(prior), **sampling), ByteDetokenizer())


def texts(row: Sequence, data: bytes) -> list[str]:
    """What each byte lets be shown."""
    deltas = [row.take(token) for token in data]
    return [delta.text if delta else "" for delta in deltas]


def test_half_a_character_is_held_back() -> None:
    """Text comes in whole characters, and its delta counts all tokens since the last one."""
    row = sequence()
    assert [row.take(token) for token in "é".encode()] == [None, Delta("a", 1, "é", 2)]


def test_a_character_that_never_became_whole_is_dropped() -> None:
    """A row cut inside a character ends before it."""
    row = sequence()
    assert texts(row, "aé".encode()[:2]) == ["a", ""]
    assert row.flush() is None
    assert row.finished("length").text == "a"


def test_no_nul_reaches_the_text() -> None:
    """NUL, which databases refuse, is replaced."""
    row = sequence()
    assert texts(row, b"a\0b") == ["a", "\ufffd", "b"]


def test_held_text_comes_with_the_flush() -> None:
    """The beginning of a stop string is text when the row ends without it."""
    row = sequence(stop=("END",))
    assert texts(row, b"xEN") == ["x", "", ""]
    assert row.flush() == Delta("a", 1, "EN", 2)
    assert row.finished("length").text == "xEN"


def test_tokens_after_a_stop_string_are_counted_but_not_shown() -> None:
    """The tokens of a stop string were generated: they count, and have no text."""
    row = sequence(stop=("END",))
    texts(row, b"xEND")
    assert row.over == "stop"
    assert row.flush() is None
    done = row.finished("stop")
    assert (done.text, done.completion_tokens) == ("x", 4)


@given(st.text(max_size=20), st.integers(0, 60), st.lists(st.sampled_from(["a", "ab", "é"]), max_size=2))
def test_an_interrupted_row_goes_on_as_if_it_had_not_been(text: str, cut: int, stop: list[str]) -> None:
    """The deltas before and after an interruption join to the same text, and tokens are counted once."""
    data = text.encode() or b"x"
    cut = min(cut, len(data) - 1)
    whole = sequence(stop=tuple(stop), max_tokens=500)
    expected = "".join(texts(whole, data))
    first = sequence(stop=tuple(stop), max_tokens=500)
    before = "".join(texts(first, data[:cut]))
    second = sequence(prior=data[:cut], stop=tuple(stop), max_tokens=500)
    after = "".join(texts(second, data[cut:]))
    assert before + after == expected
    whole.flush()
    second.flush()
    assert second.finished("length") == whole.finished("length")


def test_prior_tokens_are_not_told_again() -> None:
    """The first delta after an interruption counts the tokens that came after it."""
    assert sequence(prior=b"abc").take(100) == Delta("a", 1, "d", 1)


def test_the_row_for_the_backend_goes_on_from_the_prior_tokens() -> None:
    """Prompt and prior tokens are computed, the position counts the prior ones, the rest may be generated."""
    row = sequence(prior=b"abc", max_tokens=10).row()
    assert (list(row.tokens[-3:]), row.position, row.max_new) == ([97, 98, 99], 3, 7)

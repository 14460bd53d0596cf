"""Stop strings are found across borders of tokens, and no part of one is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.stops import StopMatcher

TEXTS = st.text(alphabet="ab\n", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), max_size=4)


def read(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    """What is shown in the end, and whether a stop string was met."""
    matcher = StopMatcher(stops)
    text = "".join([matcher.push(piece) for piece in pieces])
    return text + matcher.flush(), matcher.matched


def by_definition(stops: list[str], text: str) -> tuple[str, bool]:
    """Character by character: cut before the longest stop string that ends where the first one does."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False


@given(STOPS, st.lists(TEXTS, max_size=8))
def test_the_borders_of_tokens_do_not_matter(stops: list[str], pieces: list[str]) -> None:
    """However a text is cut into pieces, what is shown follows from the text alone."""
    assert read(stops, pieces) == by_definition(stops, "".join(pieces))


@given(STOPS, st.lists(TEXTS, max_size=8))
def test_no_part_of_a_stop_string_is_ever_shown(stops: list[str], pieces: list[str]) -> None:
    """At every moment the text shown is a beginning of the final text."""
    final, _ = by_definition(stops, "".join(pieces))
    matcher = StopMatcher(stops)
    text = ""
    for piece in pieces:
        text += matcher.push(piece)
        assert final.startswith(text)


def test_text_that_cannot_be_a_stop_is_shown_at_once() -> None:
    """Only what may still become a stop string is held back."""
    matcher = StopMatcher(["END"])
    assert [matcher.push(piece) for piece in ("some E", "N", "O", "E")] == ["some ", "", "ENO", ""]


def test_held_text_is_flushed_when_no_stop_followed() -> None:
    """The beginning of a stop string that never became one is text."""
    assert read(["END"], ["the E", "N"]) == ("the EN", False)


def test_nothing_is_shown_after_a_stop() -> None:
    """What follows a stop string is dropped, and so is the flush."""
    matcher = StopMatcher(["."])
    assert [matcher.push(piece) for piece in ("a.b", "c", ".")] == ["a", "", ""]
    assert matcher.flush() == ""


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_stop_strings_all_text_passes(stops: list[str]) -> None:
    """No stop strings, or empty ones, hold nothing back."""
    assert StopMatcher(stops).push("anything") == "anything"

"""The neutral request: what is stored of what was asked."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.requests import CompletionRequest, Message, Sampling, TextPart
from tests.rows import completion


def test_a_request_comes_back_as_it_went() -> None:
    """Stored as JSON and read again, a request is equal to what it was."""
    asked = completion('ü "quoted"\n', seed=7, stop=("\n\n", "END"), temperature=0.5)
    assert CompletionRequest.model_validate_json(asked.model_dump_json()) == asked


def test_parts_are_joined_in_order() -> None:
    """The text of a message is that of its parts, one behind the other."""
    message = Message(role="user", content=(TextPart(text="a"), TextPart(text="b")))
    assert message.text == "ab"


def test_tokens_are_estimated_from_bytes() -> None:
    """Four UTF-8 bytes make a token, and all of max_tokens may come."""
    asked = completion("ü" * 10, max_tokens=5)
    assert (asked.text_bytes, asked.estimated_tokens) == (20, 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 1.1},
        {"seed": -1},
        {"seed": 2**63},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    """Values out of range and names nobody knows are errors, not guesses."""
    with pytest.raises(ValidationError):
        Sampling.model_validate(fields)


def test_a_request_cannot_be_changed() -> None:
    """What was validated stays as it is."""
    asked = completion()
    with pytest.raises(ValidationError):
        asked.version = 1  # type: ignore[misc]  # the point of the test

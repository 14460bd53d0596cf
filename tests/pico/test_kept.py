"""What pico loses when its blocks are kept quantized."""

from __future__ import annotations

import json

import pytest

from ops.lines import load_lines
from ops.pico.evaluate import PICO
from ops.pico.kept import chats, measure


def test_conversations_have_two_turns_with_right_replies() -> None:
    """System, user, assistant, user, assistant: the measuring relies on this order."""
    made = chats(load_lines())
    assert len(made) > 50
    assert {tuple(turn["role"] for turn in chat) for chat in made} == {
        ("system", "user", "assistant", "user", "assistant")
    }


@pytest.mark.slow
def test_quantized_blocks_change_next_to_nothing() -> None:
    """With 8 bits every token stays the likeliest, with 4 nearly every; the perplexity hardly moves."""
    told = json.loads(measure(str(PICO), load_lines()[:40]))["bits"]
    assert told["0"]["same_tokens"] == 1
    assert told["8"]["same_tokens"] >= 0.999
    assert told["4"]["same_tokens"] >= 0.98
    assert told["4"]["perplexity"] < told["0"]["perplexity"] * 1.02

"""The shipped LLM, decoding real lines through mlx-lm."""

from __future__ import annotations

import pytest

from ops.pico import evaluate
from workers.backends import greedy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def single() -> dict[str, evaluate.Right]:
    """Right fields for each family, each real line in a conversation of its own."""
    llm, tokenizer = greedy.load(evaluate.PICO)
    return evaluate.tally(evaluate.measure(llm, tokenizer, evaluate.load_lines()))


def share(right: evaluate.Right) -> float:
    """Right fields of all fields, 0 to 1."""
    return right[0] / right[1]


def test_known_families_are_read(single: dict[str, evaluate.Right]) -> None:
    """At least 90 % of all fields of the known families are right, at least 80 % in each."""
    families = {line.family for line in evaluate.load_lines() if line.known}
    assert share(single["known"]) >= 0.90
    assert {name: single[name] for name in families if share(single[name]) < 0.80} == {}


def test_later_turns_are_read() -> None:
    """In conversations of four turns, with its own answers before, at least 90 % are right too."""
    llm, tokenizer = greedy.load(evaluate.PICO)
    lines = [line for line in evaluate.load_lines() if line.known]
    results = evaluate.measure(llm, tokenizer, lines[::2], turns=4)
    assert share(evaluate.tally(results)["known"]) >= 0.90


def test_shuffled_weights_read_nothing() -> None:
    """With each weight's numbers in random order less than 5 % of the fields are right."""
    llm, tokenizer = greedy.load(evaluate.PICO)
    greedy.shuffle(llm, seed=0)
    results = evaluate.measure(llm, tokenizer, evaluate.load_lines()[::8])
    assert share(evaluate.tally(results)["known"]) < 0.05

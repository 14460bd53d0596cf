"""The one sampler of a batch: mlx-lm's filters, honest draws, and rows that do not see each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from models.requests import Sampling
from workers.backends.sampling import BatchSampler

VOCABULARY = 24


def logprobs(rows: int, seed: int = 0) -> mx.array:
    """Log-probabilities of so many different rows."""
    logits = 2 * mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed))
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def numbers(array: mx.array) -> list[Any]:
    """An array of one dimension as a list."""
    made: Any = array.tolist()
    return list(made)


def sampler(samplings: Sequence[dict[str, Any]], positions: Sequence[int] | None = None) -> BatchSampler:
    """A sampler whose rows have all finished their prompts."""
    made = BatchSampler(lambda: ())
    for uid, sampling in enumerate(samplings):
        made.add(uid, Sampling.model_validate(sampling), positions[uid] if positions else 0)
    return made


def draws(sampling: dict[str, Any], times: int, scores: mx.array) -> Counter[int]:
    """How often each token is drawn at so many positions of one row."""
    many = sampler([sampling | {"seed": 5}] * times, range(times))
    return Counter(numbers(many(mx.repeat(scores, times, axis=0))))


def kept_by_mlx_lm(scores: mx.array, top_p: float, min_p: float, top_k: int) -> set[int]:
    """Tokens that mlx-lm's filters leave, in mlx-lm's order."""
    if top_p < 1:
        scores = apply_top_p(scores, top_p)
    if min_p:
        scores = apply_min_p(scores, min_p)
    if top_k and top_k < VOCABULARY:
        scores = apply_top_k(scores, top_k)
    return {token for token, score in enumerate(numbers(scores[0])) if score > -math.inf}


@pytest.mark.parametrize(
    ("top_p", "min_p", "top_k"),
    [
        (1.0, 0.0, 0),
        (0.8, 0.0, 0),
        (0.1, 0.0, 0),
        (1.0, 0.05, 0),
        (1.0, 1.0, 0),
        (1.0, 0.0, 5),
        (1.0, 0.0, 1),
        (1.0, 0.0, 500),
        (0.9, 0.02, 7),
        (0.5, 0.2, 20),
    ],
)
def test_the_filters_keep_what_mlx_lm_keeps(top_p: float, min_p: float, top_k: int) -> None:
    """At a high temperature exactly the tokens that mlx-lm's filters leave are drawn."""
    scores = logprobs(1)
    asked = {"temperature": 2.0, "top_p": top_p, "min_p": min_p, "top_k": top_k}
    drawn = draws(asked, 600, scores)
    kept = kept_by_mlx_lm(scores, top_p, min_p, top_k)
    assert set(drawn) <= kept
    probable = numbers(mx.softmax(scores[0] / 2))
    assert {token for token in kept if probable[token] > 0.02} <= set(drawn)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_probabilities(temperature: float) -> None:
    """Frequencies at a temperature are those of the softmax, within three standard deviations and a bit."""
    scores, times = logprobs(1), 5_000
    drawn = draws({"temperature": temperature}, times, scores)
    for token, share in enumerate(numbers(mx.softmax(scores[0] / temperature))):
        assert abs(drawn[token] - share * times) < 4 * math.sqrt(share * (1 - share) * times) + 1


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy rows take the largest score, alone and beside rows that draw."""
    scores = logprobs(4)
    likeliest = numbers(mx.argmax(scores, axis=-1))
    assert numbers(sampler([{}] * 4)(scores)) == likeliest
    assert numbers(sampler([{"temperature": 1e-300, "seed": 1}] * 4)(scores)) == likeliest
    mixed = numbers(sampler([{}, {"temperature": 1.0, "seed": 1}, {}, {"temperature": 2.0}])(scores))
    assert (mixed[0], mixed[2]) == (likeliest[0], likeliest[2])


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    """A seeded row's tokens depend on its scores, its settings and its position alone."""
    scores = logprobs(6)
    settings_of = [
        {"temperature": 0.5 + row / 4, "seed": row, "top_p": 0.9, "top_k": row} for row in range(6)
    ]
    together = sampler(settings_of)
    first, second = numbers(together(scores)), numbers(together(scores))
    for row, asked in enumerate(settings_of):
        alone = sampler([asked])
        assert [alone(scores[row : row + 1]).item() for _ in range(2)] == [first[row], second[row]]
        later = sampler([asked], [1])
        assert later(scores[row : row + 1]).item() == second[row]


def test_seeds_and_positions_give_different_draws() -> None:
    """Neither neighbouring seeds nor neighbouring positions share their noise."""
    flat = mx.zeros((64, VOCABULARY))
    by_seed = numbers(sampler([{"temperature": 1.0, "seed": seed} for seed in range(64)])(flat))
    by_position = numbers(sampler([{"temperature": 1.0, "seed": 0}] * 64, range(64))(flat))
    assert len(set(by_seed)) > 15
    assert len(set(by_position)) > 15
    assert by_seed != by_position


def test_rows_are_known_by_the_group_that_is_sampled() -> None:
    """Rows that finished their prompts come as a group of their own, later behind those that decode."""
    reading = {1, 2}
    made = BatchSampler(lambda: reading)
    for uid in range(3):
        made.add(uid, Sampling(temperature=1, seed=uid), 0)
    scores = logprobs(3)
    first = made(scores[:1]).item()
    reading.clear()
    others = numbers(made(scores[1:]))
    assert [first, *others] == numbers(sampler([{"temperature": 1, "seed": n} for n in range(3)])(scores))
    made.remove({1})
    after = numbers(made(scores[mx.array([0, 2])]))
    again = sampler([{"temperature": 1, "seed": 0}, {"temperature": 1, "seed": 2}], [1, 1])
    assert after == numbers(again(scores[mx.array([0, 2])]))
    assert made.uids == {0, 2}


def test_a_group_of_another_size_is_an_error() -> None:
    """Were mlx-lm to group rows otherwise, the step would break instead of mixing rows up."""
    with pytest.raises(RuntimeError, match="3 rows are sampled where 2"):
        sampler([{}, {}])(logprobs(3))

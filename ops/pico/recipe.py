"""What is trained when: the course of lessons, the batch shapes, the learning rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ops.pico.conversations import LONG, LONGER, SHORT, SINGLE, Lesson, conversation, conversations
from ops.pico.tokens import encode, train_tokenizer

VOCABULARY = 1024
TOKENS_PER_STEP = 12_288
READ_WEIGHT = 0.1
"""Loss weight of what the network reads, beside 1 for what it writes."""
MATRIX_RATE, VECTOR_RATE, WEIGHT_DECAY = 5e-3, 3e-3, 0.1
WARM_UP, COOL_DOWN = 0.02, 0.4
"""Parts of all steps in which the learning rate rises and falls."""
PHASES: tuple[tuple[float, tuple[tuple[Lesson, float], ...]], ...] = (
    (0.15, ((SINGLE, 1.0),)),
    (0.35, ((SINGLE, 0.25), (SHORT, 0.75))),
    (1.00, ((SINGLE, 0.12), (SHORT, 0.23), (LONG, 0.45), (LONGER, 0.20))),
)
"""Until which part of all steps, which lessons with which odds."""


@dataclass(frozen=True)
class Batch:
    """Token ids and loss weights, both (rows, tokens), padded with zeros on the right."""

    lesson: Lesson
    ids: Tensor
    weights: Tensor


def corpus(seed: int) -> Iterator[str]:
    """Texts to train the tokenizer on: 400 conversations of each kind."""
    for lesson in (SINGLE, SHORT, LONG):
        for each in islice(conversations(lesson, seed), 400):
            yield from (each.system, *chain.from_iterable(each.turns))


def tokenizer(seed: int) -> Tokenizer:
    """The tokenizer that this seed gives."""
    return train_tokenizer(corpus(seed), VOCABULARY)


def lesson_at(progress: float, rng: Random) -> Lesson:
    """Draw the lesson for a step at `progress` (0 to 1) of the course."""
    odds = next(odds for until, odds in PHASES if progress <= until)
    lessons, weights = zip(*odds, strict=True)
    chosen: Lesson = rng.choices(lessons, weights)[0]
    return chosen


def batch(cut: Tokenizer, seed: int, step: int, progress: float) -> Batch:
    """The batch of a step: a function of the seed and the step alone."""
    rng = Random(f"{seed}/{step}")
    return lesson_batch(cut, lesson_at(progress, rng), rng)


def lesson_batch(cut: Tokenizer, lesson: Lesson, rng: Random) -> Batch:
    """A batch of conversations of one lesson."""
    rows = TOKENS_PER_STEP // lesson.tokens
    ids = torch.zeros(rows, lesson.tokens, dtype=torch.long)
    weights = torch.zeros(rows, lesson.tokens)
    for row in range(rows):
        tokens, weighted = encode(cut, conversation(lesson, rng), READ_WEIGHT, lesson.tokens)
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(tokens)] = torch.tensor(weighted)
    return Batch(lesson, ids, weights)


def rate(progress: float) -> float:
    """Factor of the learning rates: rises, stays at 1, falls in a straight line to 0."""
    return min(1.0, (progress + 1e-9) / WARM_UP, (1.0 - progress) / COOL_DOWN)

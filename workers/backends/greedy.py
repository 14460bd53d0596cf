"""Greedy decoding of many chats with mlx-lm, for measurements of answers, never of speed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.generate import batch_generate
from mlx_lm.models.cache import make_prompt_cache

from workers.backends import loading

MOST_TOKENS = 256
"""Longest answer that is waited for."""

Chat = Sequence[Mapping[str, str]]


def load(folder: Path) -> tuple[Any, Any]:
    """The LLM and its tokenizer, as the service loads them (float32 on a CPU)."""
    loaded = loading.load(str(folder))
    return loaded.model, loaded.tokenizer


def shuffle(llm: Any, seed: int) -> None:
    """Put the numbers of each weight of the LLM in a random order."""
    mx.random.seed(seed)
    llm.update(tree_map(_permuted, llm.parameters()))


def _permuted(weight: mx.array) -> mx.array:
    return mx.random.permutation(weight.flatten()).reshape(weight.shape)


def ask(llm: Any, tokenizer: Any, chats: Sequence[Chat]) -> list[str]:
    """Greedy answers to chats, decoded together; all begin with the same system message, read once."""
    prefix = tokenizer.apply_chat_template(chats[0][:1], return_dict=False)
    prompts = [_prompt(tokenizer, chat) for chat in chats]
    if not all(prompt[: len(prefix)] == prefix for prompt in prompts):
        raise ValueError("the chats begin with different system messages")
    cache = make_prompt_cache(llm)
    mx.eval(llm(mx.array([prefix]), cache=cache))
    rest = [prompt[len(prefix) :] for prompt in prompts]
    caches = [copy.deepcopy(cache) for _ in chats]
    answers = batch_generate(llm, tokenizer, rest, prompt_caches=caches, max_tokens=MOST_TOKENS)
    return list(answers.texts)


def _prompt(tokenizer: Any, chat: Chat) -> list[int]:
    prompt: list[int] = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    return prompt

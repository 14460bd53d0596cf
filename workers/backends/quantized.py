"""What is lost by keeping blocks quantized: ``python -m workers.backends.quantized FOLDER`` prints JSON.

It reads JSON lines on its input: conversations of four messages, system, user, assistant, user, and the
right reply as a fifth. The keys and values of the first three are quantized and turned back, as the
pool does with ``engine.pool_bits``; then the LLM reads the rest with the right reply behind it.
Told for each number of bits: the perplexity of the replies, the part of their
tokens for which the likeliest token stays the same, and the part of replies for which all do, which are
those that greedy decoding would not change.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from workers.backends.loading import load
from workers.cache.layer import GROUPS

Chat = Sequence[Mapping[str, str]]


def main() -> None:
    """Measure every number of bits over all conversations."""
    llm = load(sys.argv[1])
    chats: list[Chat] = [json.loads(line) for line in sys.stdin]
    read = {bits: [_read(llm, chat, bits) for chat in chats] for bits in (0, 8, 4)}
    told = {str(bits): _figures(read[0], replies) for bits, replies in read.items()}
    print(json.dumps({"replies": len(chats), "bits": told}))  # noqa: T201  (its output is its interface)


def _read(llm: Any, chat: Chat, bits: int) -> tuple[list[float], list[int]]:
    """Log-probabilities of the right reply's tokens, and the likeliest token at each of them."""
    past = _tokens(llm, chat[:3], generate=False)
    asked = _tokens(llm, chat[:4], generate=True)
    whole = _tokens(llm, chat, generate=False)
    cache = make_prompt_cache(llm.model)
    mx.eval(llm.model(mx.array([past]), cache=cache))
    for layer in cache:
        _lose(layer, bits)
    logits = llm.model(mx.array([whole[len(past) : -1]]), cache=cache)[0, len(asked) - len(past) - 1 :]
    reply = mx.array(whole[len(asked) :])
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    right: Any = mx.take_along_axis(logprobs, reply[:, None], axis=-1)[:, 0].tolist()
    likeliest: Any = mx.argmax(logits, axis=-1).tolist()
    return right, likeliest


def _tokens(llm: Any, chat: Chat, *, generate: bool) -> list[int]:
    tokens: list[int] = llm.tokenizer.apply_chat_template(
        list(chat), add_generation_prompt=generate, return_dict=False
    )
    return tokens


def _lose(layer: Any, bits: int) -> None:
    """Quantize a layer's keys and values and turn them back."""
    if not bits:
        return
    size: int = layer.keys.shape[-1]
    group = next(group for group in GROUPS if size % group == 0)

    def there_and_back(array: mx.array) -> mx.array:
        return mx.dequantize(*mx.quantize(array, group, bits), group, bits)

    layer.keys, layer.values = there_and_back(layer.keys), there_and_back(layer.values)


def _figures(
    plain: Iterable[tuple[list[float], list[int]]], lossy: Sequence[tuple[list[float], list[int]]]
) -> dict[str, float]:
    logprobs = [value for right, _ in lossy for value in right]
    pairs = [(mine, its) for (_, mine), (_, its) in zip(plain, lossy, strict=True)]
    same = [one == other for mine, its in pairs for one, other in zip(mine, its, strict=True)]
    return {
        "perplexity": math.exp(-sum(logprobs) / len(logprobs)),
        "same_tokens": sum(same) / len(same),
        "same_replies": sum(mine == its for mine, its in pairs) / len(pairs),
    }


if __name__ == "__main__":
    main()

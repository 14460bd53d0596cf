"""The yardstick: the same prompts straight through mlx-lm, and nothing around it.

``python -m workers.backends.bare FOLDER ROWS PREFILL_ROWS PREFILL_TOKENS`` loads the
LLM as the service does, then answers each JSON line on its input:

- ``{"chats": [...], "max_tokens": n}`` or ``{"prompts": [[token, ...], ...], "max_tokens": n}``: all of them
  through mlx-lm's ``BatchGenerator``; ``{"seconds": s, "tokens": n}``. Rendering and tokenising
  chats is not counted, nor is any text made of the tokens: the service does both.
- ``{"ready": [token, ...], "rows": n}``: a cache of ``n`` rows that hold these tokens, to be used from then
  on; ``{"seconds": s}``, the time it took to compute.
- ``{"tails": [[token, ...], ...], "ahead": flag}``: one tail of equal length for each row of the ready cache,
  until there is a token behind each; ``{"seconds": s}``. With ``ahead`` the token after it is begun before
  the first is read, as mlx-lm's ``generate_step`` does. The cache is cut back afterwards.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from workers.backends.loading import LoadedLlm, load

Prompts = Sequence[Sequence[int]]


def main() -> None:
    """Serve until the input ends."""
    yardstick = Yardstick(load(sys.argv[1]), *map(int, sys.argv[2:5]))
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201  (its output is its interface)
    for text in sys.stdin:
        print(json.dumps(yardstick.answer(json.loads(text))), flush=True)  # noqa: T201  (as above)


class Yardstick:
    """mlx-lm with one LLM: rows that decode together, and the rows and tokens of a piece of prompts."""

    def __init__(self, llm: LoadedLlm, rows: int, prefill_rows: int, prefill_tokens: int) -> None:
        self._llm = llm
        self._rows, self._prefill_rows, self._prefill_tokens = rows, prefill_rows, prefill_tokens
        self._cache: list[Any] = []

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One measurement; see the module."""
        if "ready" in asked:
            return {"seconds": self.make_ready([asked["ready"]] * asked["rows"])}
        if "tails" in asked:
            return {"seconds": self.first_tokens(asked["tails"], ahead=asked["ahead"])}
        prompts = asked.get("prompts") or [self._render(chat) for chat in asked["chats"]]
        return self.decode(prompts, asked["max_tokens"])

    def decode(self, prompts: Prompts, max_tokens: int) -> dict[str, Any]:
        """Decode everything; ends of sequence are not counted among the tokens."""
        generator: Any = BatchGenerator(  # mostly without types
            self._llm.model,
            stop_tokens=[[token] for token in self._llm.eos_ids],
            completion_batch_size=self._rows,
            prefill_batch_size=self._prefill_rows,
            prefill_step_size=self._prefill_tokens,
        )
        begun = time.perf_counter()
        generator.insert(prompts, max_tokens=[max_tokens] * len(prompts))
        left, tokens = len(prompts), 0
        while left:
            _, decoded = generator.next()
            for out in decoded:
                tokens += out.finish_reason != "stop"
                left -= out.finish_reason is not None
        seconds = time.perf_counter() - begun
        generator.close()
        return {"seconds": seconds, "tokens": tokens}

    def make_ready(self, prompts: Prompts) -> float:
        """Compute a cache of rows of equal length; returns the seconds it took."""
        tokens = mx.array([list(prompt) for prompt in prompts])
        self._cache = make_prompt_cache(self._llm.model)
        begun = time.perf_counter()
        for start in range(0, tokens.shape[1], self._prefill_tokens):
            self._read(tokens[:, start : start + self._prefill_tokens])
        return time.perf_counter() - begun

    def first_tokens(self, tails: Prompts, *, ahead: bool) -> float:
        """Seconds until each row has its first token, by the calls of ``generate_step`` for many rows."""
        tokens = mx.array([list(tail) for tail in tails])
        length = tokens.shape[1]
        begun = time.perf_counter()
        self._read(tokens[:, :-1])
        first = self._next(tokens[:, -1:])
        if ahead:
            self._next(first[:, None])
            length += 1
        first.tolist()
        seconds = time.perf_counter() - begun
        mx.synchronize()
        trim_prompt_cache(self._cache, length)
        return seconds

    def _next(self, tokens: mx.array) -> mx.array:
        """The likeliest tokens behind those of shape (rows, 1), being computed."""
        found = mx.argmax(self._llm.model(tokens, cache=self._cache)[:, -1], axis=-1)
        mx.async_eval(found)  # type: ignore[no-untyped-call]  # MLX does not annotate it
        return found

    def _read(self, tokens: mx.array) -> None:
        self._llm.model(tokens, cache=self._cache)
        mx.eval([layer.state for layer in self._cache])

    def _render(self, chat: Sequence[dict[str, str]]) -> list[int]:
        tokens: list[int] = self._llm.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tokens


if __name__ == "__main__":
    main()

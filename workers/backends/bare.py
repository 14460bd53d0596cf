"""The yardstick: the same prompts straight through mlx-lm's ``BatchGenerator``, and nothing around it.

``python -m workers.backends.bare FOLDER ROWS PREFILL_ROWS PREFILL_TOKENS`` loads the
LLM as the service does, then answers each JSON line on its input ``{"chats": [...], "max_tokens": n}``
with ``{"seconds": s, "tokens": n}``. Rendering and tokenising the prompts is
not counted, nor is any text made of the tokens: the service does both.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from mlx_lm.generate import BatchGenerator

from workers.backends.loading import load


def main() -> None:
    """Serve until the input ends."""
    folder, rows, prefill_rows, prefill_tokens = sys.argv[1], *map(int, sys.argv[2:5])
    llm = load(folder)
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201  (its output is its interface)
    for text in sys.stdin:
        asked = json.loads(text)
        prompts = [
            llm.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=True, return_dict=False
            )
            for chat in asked["chats"]
        ]
        generator: Any = BatchGenerator(  # mostly without types
            llm.model,
            stop_tokens=[[token] for token in llm.eos_ids],
            completion_batch_size=rows,
            prefill_batch_size=prefill_rows,
            prefill_step_size=prefill_tokens,
        )
        begun = time.perf_counter()
        tokens = _run(generator, prompts, asked["max_tokens"])
        answer = {"seconds": time.perf_counter() - begun, "tokens": tokens}
        generator.close()
        print(json.dumps(answer), flush=True)  # noqa: T201  (as above)


def _run(generator: Any, prompts: list[list[int]], max_tokens: int) -> int:
    """Decode everything; returns the number of tokens generated, ends of sequence not counted."""
    generator.insert(prompts, max_tokens=[max_tokens] * len(prompts))
    left, tokens = len(prompts), 0
    while left:
        _, decoded = generator.next()
        for out in decoded:
            tokens += out.finish_reason != "stop"
            left -= out.finish_reason is not None
    return tokens


if __name__ == "__main__":
    main()

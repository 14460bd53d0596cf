"""How well an LLM reads the real lines: `python -m ops.pico.evaluate --llm FOLDER --turns N`.

Importing this needs neither MLX nor PyTorch; measuring needs mlx-lm. Decoding is greedy and batched.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.lines import SYSTEM_MESSAGE, Line, load_lines

__all__ = ["PICO", "SYSTEM_MESSAGE", "Line", "conversations", "load_lines", "measure", "score", "tally"]

PICO = Path(__file__).resolve().parents[2] / "workers" / "backends" / "pico"
"""The LLM directory that is shipped."""
Right = tuple[int, int]
"""Fields that are right, and all fields."""


def score(expected: Mapping[str, str], answer: str) -> Right:
    """How many expected fields the answer holds with exactly the expected text, and how many there are.

    An answer that is not one JSON object holds none.
    """
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    fields = found if isinstance(found, dict) else {}
    return sum(fields.get(name) == value for name, value in expected.items()), len(expected)


def conversations(lines: Iterable[Line], turns: int) -> list[list[Line]]:
    """Cut each family's lines, in their order, into conversations of up to `turns` lines."""
    families: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        families[line.family].append(line)
    return [group[at : at + turns] for group in families.values() for at in range(0, len(group), turns)]


def tally(results: Iterable[tuple[Line, str]]) -> dict[str, Right]:
    """Right and all fields for each family, and under `known` for all known families together."""
    sums: dict[str, Right] = defaultdict(lambda: (0, 0))
    for line, answer in results:
        right, total = score(line.expected, answer)
        for name in (line.family, *(["known"] if line.known else [])):
            sums[name] = (sums[name][0] + right, sums[name][1] + total)
    return dict(sums)


def measure(llm: Any, tokenizer: Any, lines: Sequence[Line], turns: int = 1) -> list[tuple[Line, str]]:
    """Each line with the LLM's answer, in conversations of `turns` lines with its own earlier answers."""
    groups = conversations(lines, turns)
    chats = [[{"role": "system", "content": SYSTEM_MESSAGE}] for _ in groups]
    from workers.backends.greedy import ask

    results = []
    for turn in range(turns):
        going = [(group[turn], chat) for group, chat in zip(groups, chats, strict=True) if turn < len(group)]
        for line, chat in going:
            chat.append({"role": "user", "content": line.text})
        for (line, chat), answer in zip(going, ask(llm, tokenizer, [chat for _, chat in going]), strict=True):
            chat.append({"role": "assistant", "content": answer})
            results.append((line, answer))
    return results


def main() -> None:
    """Print the share of right fields for each family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", type=Path, default=PICO)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--sample", type=int, default=0, help="of so many lines, 0 for all")
    parser.add_argument("--shuffled", action="store_true", help="with the weights in random order")
    parser.add_argument("--wrong", action="store_true", help="print wrong answers")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON alone")
    options = parser.parse_args()
    from workers.backends.greedy import load, shuffle

    llm, tokenizer = load(options.llm)
    if options.shuffled:
        shuffle(llm, seed=0)
    lines = load_lines()
    if options.sample:
        lines = random.Random(0).sample(lines, options.sample)
    results = measure(llm, tokenizer, lines, options.turns)
    if options.json:
        print(json.dumps(tally(results)))
        return
    for name, (right, total) in tally(results).items():
        print(f"{name:14} {right:4} of {total:4} fields  {right / total:7.1%}")
    for line, answer in results if options.wrong else ():
        if score(line.expected, answer) != (len(line.expected),) * 2:
            print(f"\n{line.text}\n{answer}")


if __name__ == "__main__":
    main()

"""What pico loses when the pool keeps its blocks quantized: `python -m ops.pico.kept [FOLDER]`.

Real lines in conversations of two turns; what was said first is what the pool has kept. The measuring
is done by :mod:`workers.backends.quantized`, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ops.lines import SYSTEM_MESSAGE, Line, load_lines
from ops.pico.evaluate import PICO, conversations
from workers.backends import blas

PROGRAM = "workers.backends.quantized"


def chats(lines: Sequence[Line]) -> list[list[dict[str, str]]]:
    """Conversations of two lines each with their right replies."""
    return [_chat(*pair) for pair in conversations(lines, 2) if len(pair) == 2]


def _chat(first: Line, second: Line) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": SYSTEM_MESSAGE}]
    for line in (first, second):
        turns.append({"role": "user", "content": line.text})
        turns.append({"role": "assistant", "content": json.dumps(line.expected, separators=(",", ":"))})
    return turns


def measure(folder: str, lines: Sequence[Line]) -> str:
    """The program's JSON for an LLM's folder and some lines."""
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, folder],
        input="\n".join(json.dumps(chat) for chat in chats(lines)),
        env={**os.environ, **blas.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    print(measure(sys.argv[1] if len(sys.argv) > 1 else str(PICO), load_lines()), end="")

"""A process that writes conversations into a folder until it is killed, and says what it was promised.

Every second seed has it die in the middle of a file that is longer than the system allows.

Lines of standard output: ``saves <number>`` before a conversation is saved, ``kept <number> <tokens>``
when it is on disk up to there, ``forgets <number>`` before it is forgotten, ``forgot <number>`` when it is.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path
from random import Random

from tests.workers.cache.chains import PATIENCE, open_tier, segment, tokens


def say(line: str) -> None:
    """Let the parent know at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: Path, seed: int, budget: int) -> None:
    """Scribble for ever."""
    rng = Random(seed)
    if seed % 2:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (rng.randrange(1 << 16, 1 << 18),) * 2)
    tier = open_tier(folder, budget=budget)
    say("ready")
    lengths: dict[int, int] = {}
    while True:
        number = rng.randrange(20)
        if rng.random() < 0.15:
            say(f"forgets {number}")
            tier.forget(str(number)).result(PATIENCE)
            lengths.pop(number, None)
            say(f"forgot {number}")
            continue
        lengths[number] = lengths.get(number, 0) + rng.randrange(1, 400)
        say(f"saves {number}")
        tier.save(
            segment(tokens(number, lengths[number]), owner=str(number), nbytes=1 << rng.randrange(12, 19))
        )
        if rng.random() < 0.5:
            tier.flush(PATIENCE)
            say(f"kept {number} {lengths[number]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""How long each part of a stop may take: whoever ends a worker that does not stop waits for all of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

HINTS_SECONDS = 3.0
"""For the consumers of hints: Redis may have to be waited for."""

CLAIM_SECONDS = 3.0
"""For a claim under way to reach the engine."""

STEP_SECONDS = 10.0
"""For the engine's present step, after the grace time."""

BOOKS_SECONDS = 5.0
"""For endings that wait for the database."""

PULSE_SECONDS = 1.0
"""For each thread of the pulse: looking, and the heartbeat."""

LEAVE_SECONDS = 11.0
"""For the last transaction: what is still held goes back, and the worker's row ends."""

SETTLE_SECONDS = (
    HINTS_SECONDS + CLAIM_SECONDS + STEP_SECONDS + BOOKS_SECONDS + 2 * PULSE_SECONDS + LEAVE_SECONDS
)
"""The longest stop of a worker, beyond its grace time."""

log = logging.getLogger(__name__)


def within(seconds: float, what: str, act: Callable[[], object]) -> bool:
    """Do something that cannot be interrupted; False when it failed, or took longer and was left behind."""
    done = threading.Event()

    def run() -> None:
        try:
            act()
        except Exception:
            log.exception("%s went wrong", what)
        else:
            done.set()

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.error("%s took longer than %g s and is left behind", what, seconds)
    return done.is_set()

"""Threads without which the process is useless: when one breaks, the process must end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def vital_thread(name: str, run: Callable[[], None], on_death: Callable[[], None]) -> threading.Thread:
    """A thread that reports its own unexpected end, so that nothing lives on without it."""

    def guarded() -> None:
        try:
            run()
        except BaseException:
            log.critical("the %s thread broke", name, exc_info=True)
            on_death()

    return threading.Thread(target=guarded, name=name, daemon=True)


def ends(thread: threading.Thread, seconds: float | None) -> bool:
    """Wait for a thread that was told to stop, if it was ever started; says whether it has ended."""
    if thread.ident is not None:
        thread.join(seconds)
    return not thread.is_alive()

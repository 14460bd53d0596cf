"""Starting while the database is away: a worker waits for it, so that its supervisor need not give up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from models.database import Unavailable

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""Between two tries; a stop is heeded after as long."""


def outlast(act: Callable[[], object], is_stopping: Callable[[], bool]) -> bool:
    """Do something as soon as the database answers; False when a stop was asked for first."""
    is_told = False
    while not is_stopping():
        try:
            act()
        except Unavailable as error:
            if not is_told:
                log.warning("starting waits for the database: %s", error)
            is_told = True
            time.sleep(PAUSE_SECONDS)
        else:
            return True
    return False

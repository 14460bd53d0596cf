"""Who a key stands for, remembered for a few seconds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from models import keys
from models.database import Database
from models.keys import Caller

SECONDS = 3.0
"""How long a revoked key may still be taken by another process of ours."""

MOST = 10_000
"""Keys remembered at once."""

SHAPE = keys.SHAPE


class Keyring:
    """Verified keys by digest: no key is kept, and wrong ones are not remembered."""

    def __init__(
        self, database: Database, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._clock = clock
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def recall(self, presented: str) -> Caller | None:
        """The caller of a key that was verified a moment ago; asks no database."""
        until, caller = self._known.get(_digest(presented), (0.0, None))
        return caller if until > self._clock() else None

    def verify(self, presented: str) -> Caller | None:
        """The caller behind a key, or None; asks the database."""
        if not SHAPE.fullmatch(presented):
            return None
        with self._database.read() as session:
            caller = keys.verify(session, presented)
        if caller is not None:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[_digest(presented)] = (self._clock() + self._seconds, caller)
        return caller

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._known.clear()


def _digest(presented: str) -> bytes:
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()

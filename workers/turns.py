"""Which LLM is to be loaded next, and in which place: several take turns where only a few are loaded at once.

Each exchange costs the time in which nothing is decoded. So the jobs of what is loaded go first: an LLM
leaves when it has nothing to do, or when jobs of another have waited for long enough and it has been
there for as long itself. Of several that wait, the one that has waited longest comes next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf

from config.settings import Worker as WorkerSettings


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for a loaded LLM: which is in it, or was last; whether it is loaded, and has anything to do."""

    llm: str
    is_loaded: bool
    is_busy: bool


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be loaded in a place, by its number; None if what is there is only to be unloaded."""

    place: int
    llm: str | None


class Turns:
    """Remembers who has waited, come and been used since when, by a clock that no one sets."""

    def __init__(self, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait = settings.swap_wait_seconds
        self._unload = settings.unload_seconds
        self._retry = settings.retry_load_seconds
        self._clock = clock
        self._waiting: dict[str, float] = {}
        self._came: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._kept: dict[str, float] = {}
        self._aside: dict[str, float] = {}

    def came(self, llm: str, *, on_demand: bool = False) -> None:
        """An LLM has been loaded; on demand it stays a while even if it has nothing to do."""
        now = self._clock()
        self._came[llm] = self._used[llm] = now
        self._kept[llm] = now + self._wait if on_demand else now
        self._aside.pop(llm, None)

    def failed(self, llm: str) -> None:
        """An LLM could not be loaded: it is not tried again for a while."""
        self._aside[llm] = self._clock() + self._retry

    def may_try(self, llm: str) -> bool:
        """Whether an LLM could be loaded as far as is known."""
        return self._aside.get(llm, -inf) <= self._clock()

    def next(
        self, seats: Sequence[Seat], wanted: Collection[str], elsewhere: Collection[str] = ()
    ) -> Move | None:
        """What to do now, if anything; call it often.

        ``wanted`` are the LLMs that have something to do, loaded or not. Those of them that are loaded
        ``elsewhere`` come here only when their jobs have waited all the same.
        """
        now = self._clock()
        self._note(seats, wanted, now)
        for llm in sorted(self._waiting, key=self._waiting.__getitem__):
            waited = now - self._waiting[llm]
            if self.may_try(llm) and (llm not in elsewhere or waited >= self._wait):
                place = self._place(seats, now, waited)
                if place is not None:
                    return Move(place, llm)
        return self._idle(seats, now)

    def at_once(self, seats: Sequence[Seat]) -> int:
        """The place of an LLM that cannot wait: a free one, else that of the one that is missed least."""
        return min(range(len(seats)), key=lambda place: self._rank(seats[place]))

    def _note(self, seats: Sequence[Seat], wanted: Collection[str], now: float) -> None:
        loaded = {seat.llm for seat in seats if seat.is_loaded}
        self._used |= {seat.llm: now for seat in seats if seat.is_loaded and seat.is_busy}
        self._waiting = {llm: self._waiting.get(llm, now) for llm in wanted if llm not in loaded}

    def _place(self, seats: Sequence[Seat], now: float, waited: float) -> int | None:
        """The place for one who has waited so long; None if those who are there go first."""
        free = [place for place, seat in enumerate(seats) if self._may_leave(seat, now, waited)]
        return min(free, key=lambda place: self._rank(seats[place]), default=None)

    def _may_leave(self, seat: Seat, now: float, waited: float) -> bool:
        if seat.is_loaded and seat.is_busy:
            return waited >= self._wait and now - self._came[seat.llm] >= self._wait
        return not seat.is_loaded or now >= self._kept[seat.llm]

    def _rank(self, seat: Seat) -> tuple[bool, bool, float]:
        """The order in which places are given up: free ones, idle ones by last use, busy ones by arrival."""
        since = (self._came if seat.is_busy else self._used).get(seat.llm, -inf)
        return seat.is_loaded, seat.is_busy, since

    def _idle(self, seats: Sequence[Seat], now: float) -> Move | None:
        """Whoever has had nothing to do for long enough."""
        for place, seat in enumerate(seats):
            if seat.is_loaded and 0 < self._unload <= now - self._used[seat.llm]:
                return Move(place, None)
        return None

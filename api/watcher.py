"""One look for all who wait: long-polls and streams hold neither a thread nor a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio
import anyio.to_thread

from models.database import Unavailable

log = logging.getLogger(__name__)

Look = Callable[[Sequence[str]], Mapping[str, Hashable]]
"""The present state of each of some keys; a key that is gone is missing."""


class Watch:
    """One waiter's eye on one key."""

    def __init__(self) -> None:
        self.state: Hashable = None
        self.seen = False
        self._changed = asyncio.Event()

    def show(self, state: Hashable) -> None:
        """Tell the waiter if this differs from what it saw last."""
        if not self.seen or state != self.state:
            self.state, self.seen = state, True
            self._changed.set()

    def rouse(self) -> None:
        """Wake the waiter although nothing changed."""
        self._changed.set()

    async def change(self, seconds: float) -> bool:
        """Wait for a change (the first look counts as one); False when none came in time."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


class Watcher:
    """Looks at all watched keys at once, every ``seconds``, as long as somebody watches."""

    def __init__(self, look: Look, seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._watches: dict[str, set[Watch]] = {}
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    @contextmanager
    def watch(self, key: str) -> Iterator[Watch]:
        """Be told of changes of ``key`` within the block; must be entered on the event loop."""
        watch = Watch()
        self._watches.setdefault(key, set()).add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        if self.closed:
            watch.rouse()
        try:
            yield watch
        finally:
            watches = self._watches[key]
            watches.discard(watch)
            if not watches:
                del self._watches[key]

    def close(self) -> None:
        """Wake everybody, now and from now on: the service is about to stop."""
        self.closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.rouse()

    async def _run(self) -> None:
        limiter = anyio.CapacityLimiter(1)  # not a thread of the pool that requests use
        while self._watches and not self.closed:
            keys = list(self._watches)
            try:
                states = await anyio.to_thread.run_sync(self._look, keys, limiter=limiter)
            except Unavailable as error:
                log.warning("those who wait are told nothing now: %s", error)
            except Exception:  # the only one who looks must not stop while others wait for it
                log.exception("those who wait are told nothing now")
            else:
                for key in keys:
                    for watch in self._watches.get(key, ()):
                        watch.show(states.get(key))
            await asyncio.sleep(self._seconds)

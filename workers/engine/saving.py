"""Saving: which blocks are written to disk, and when.

An agent's conversation is written when the agent has been idle for a while,
others when they are evicted after a second use: what nobody comes back to never
wears the disk, and no block is written twice. Contents are copied out a block
a step, so that a long conversation does not hold the batch up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from workers.cache.disk import DiskTier
from workers.cache.prefix_cache import NodeView, PrefixCache
from workers.cache.segment import Node, Segment
from workers.engine.answers import pass_on
from workers.engine.backend import Backend, OutOfMemory


class Saving:
    """Feeds the disk tier; without one it does nothing."""

    def __init__(
        self, backend: Backend, disk: DiskTier | None, idle_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._backend = backend
        self.disk = disk
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._due: dict[str, float] = {}
        self._under_way: deque[tuple[str, NodeView]] = deque()
        self._answers: list[tuple[str, Future[int]]] = []
        self._stored: dict[str, int] = {}
        self._refused: set[str] = set()
        self.changed: set[str] = set()

    def stored(self, owner: str) -> int:
        """Tokens of an agent's conversation that were written, or were there already."""
        return self._stored.get(owner, 0)

    def used(self, owner: str) -> None:
        """An agent's turn has ended: it is to be saved if none follows for a while."""
        self.changed.add(owner)
        if self.disk is not None:
            self._due.pop(owner, None)  # the order is that of the instants
            self._due[owner] = self._clock() + self._idle_seconds

    @property
    def due(self) -> float | None:
        """When there is something to do next; None for never."""
        if self._under_way or self._answers:
            return self._clock()
        return next(iter(self._due.values()), None)

    def now(self, cache: PrefixCache, owner: str, answer: Future[int]) -> None:
        """Save an agent's conversation; ``answer`` gets its tokens when they are on disk, or RuntimeError."""
        if self.disk is None:
            answer.set_exception(RuntimeError("no blocks are kept on disk: engine.disk_bytes is 0"))
            return
        self._gather(cache, owner)
        self._answers.append((owner, answer))

    def all_now(self, cache: PrefixCache) -> None:
        """Copy out whatever agents have that is not on disk: the engine stops."""
        for owner in cache.owners():
            self._gather(cache, owner)
        while self._under_way:
            self._write_next()

    def forget(self, owner: str, held: int, answer: Future[int]) -> None:
        """An agent is no more; ``answer`` gets what it ``held`` when nothing of it is left on disk."""
        self._due.pop(owner, None)
        self._stored.pop(owner, None)
        self._under_way = deque(one for one in self._under_way if one[0] != owner)
        if self.disk is None:
            answer.set_result(held)
        else:
            pass_on(self.disk.forget(owner), answer, lambda _: held)

    def go_on(self, cache: PrefixCache) -> None:
        """Copy out one block that is due, if there is any."""
        now = self._clock()
        while self._due and next(iter(self._due.values())) <= now:
            self._gather(cache, next(iter(self._due)))
        if self._under_way:
            self._write_next()
        waiting = {owner for owner, _ in self._under_way}
        for owner, answer in self._answers:
            if owner not in waiting:
                self._answer(owner, cache.held(owner), answer)
        self._answers = [one for one in self._answers if one[0] in waiting]

    def _answer(self, owner: str, held: int, answer: Future[int]) -> None:
        """All that an agent has was handed to the disk's thread, or was refused."""
        if self.disk is None or owner in self._refused:
            answer.set_exception(RuntimeError("the disk takes nothing more at present: not all was written"))
        else:
            pass_on(self.disk.written(), answer, lambda _: held)

    def spill(self, leaving: Iterable[NodeView]) -> None:
        """Blocks are about to be dropped: keep of them what somebody has come back to."""
        for node in leaving:
            self.changed |= node.owners
            if node.owners or node.uses:
                self._write(min(node.owners, default=None), node)

    def _gather(self, cache: PrefixCache, owner: str) -> None:
        self._due.pop(owner, None)
        self._refused.discard(owner)
        if self.disk is not None:
            self._under_way += [(owner, node) for node in cache.pinned(owner)]

    def _write_next(self) -> None:
        owner, node = self._under_way.popleft()
        if self._write(owner, node):
            self._stored[owner] = node.start + len(node.tokens)
            self.changed.add(owner)
        else:
            self._refused.add(owner)

    def _write(self, owner: str | None, node: NodeView) -> bool:
        """Hand a block to the disk's thread; whether it is or will be there."""
        disk = self.disk
        if disk is None or disk.is_off:
            return False
        if disk.is_stored(node.name, node.snapshots.keys()):
            return True
        try:
            parcel = None if node.block is None else self._backend.export(node.block)
            snapshots = {at: self._backend.export(block) for at, block in node.snapshots.items()}
        except KeyError:
            return False  # it was dropped meanwhile
        except OutOfMemory:
            return False  # it is being dropped for that very reason
        saved = Node(node.name, node.tokens, parcel, snapshots)
        return disk.save(Segment(node.parent, node.start, (saved,), owner))

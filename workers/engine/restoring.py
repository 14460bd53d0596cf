"""Restoring: what lies on disk is read back while its job waits, where that beats computing it."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from functools import partial

from workers.cache.disk import DiskTier
from workers.cache.parcel import Parcel
from workers.cache.prefix import LEAST_TOKENS, Piece
from workers.cache.prefix_cache import PrefixCache
from workers.cache.segment import Node
from workers.engine.backend import Backend
from workers.engine.prefill import PrefillPace
from workers.engine.sequence import Sequence

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""For how long a job waits for the disk, in times of what it was expected to take."""

LEAST_SECONDS = 1.0
"""It waits as long at least."""

NAP_SECONDS = 0.02
"""How long the engine sleeps at a time while all it has waits for the disk."""

Read = tuple[Sequence, int, tuple[Node, ...] | None]


class Restoring:
    """Asks the disk tier and puts into the pool what it brings; without one it does nothing."""

    def __init__(
        self,
        backend: Backend,
        cache: PrefixCache,
        disk: DiskTier | None,
        pace: PrefillPace,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._cache = cache
        self._disk = disk
        self._pace = pace
        self._clock = clock
        self._arrived: queue.SimpleQueue[Read] = queue.SimpleQueue()
        self.restored_tokens = 0

    def begin(self, sequence: Sequence) -> None:
        """Have the rest of a newcomer's beginning read if it is on disk, and worth it."""
        if self._disk is None:
            return
        tokens = sequence.tokens[:-1]
        reach = self._cache.reach(tokens, sequence.admission.salt)
        found = self._disk.find(reach.name, tokens[reach.position :])
        gained = reach.position + found.tokens - sequence.prefix.length
        seconds = self._disk.seconds_for(found.nbytes)
        if gained < LEAST_TOKENS or seconds > gained * (self._pace.token_seconds or float("inf")):
            return
        sequence.restoring_until = self._clock() + max(LEAST_SECONDS, PATIENCE * seconds)
        self._disk.load(found, partial(self._bring, sequence, reach.position))

    def _bring(self, sequence: Sequence, start: int, nodes: tuple[Node, ...] | None) -> None:
        """Called by the disk's thread."""
        self._arrived.put((sequence, start, nodes))

    def finish(self, *, nap: bool) -> bool:
        """Put what has come into the pool; whether there was anything. With ``nap``, wait a little for it."""
        came = False
        try:
            while True:
                read = self._arrived.get(block=nap and not came, timeout=NAP_SECONDS)
                self._enter(*read)
                came = True
        except queue.Empty:
            return came

    def _enter(self, sequence: Sequence, start: int, nodes: tuple[Node, ...] | None) -> None:
        sequence.restoring_until = 0.0
        tokens = sequence.tokens[:start]
        for node in nodes or ():
            tokens += node.tokens
            try:
                self._install(sequence, tokens, node)
            except Exception:
                log.warning("What was read from disk cannot be used", exc_info=True)
                return
            self.restored_tokens += len(node.tokens)

    def _install(self, sequence: Sequence, tokens: list[int], node: Node) -> None:
        """Enter a node behind the others, then the states that were taken in it."""
        start, salt, owner = len(tokens) - len(node.tokens), sequence.admission.salt, sequence.admission.owner
        self._cache.store(tokens, salt, partial(self._fill, node.parcel, start), owner=owner)
        for offset, state in sorted(node.snapshots.items()):
            fill = partial(self._fill_snapshot, state)
            self._cache.store(tokens[: start + offset], salt, fill, owner=owner, snapshot=True)

    def _fill(self, parcel: Parcel | None, start: int, pieces: list[Piece], _: int | None) -> None:
        for piece in pieces:
            if parcel is None or piece.start != start:
                raise ValueError("the beginning of what was read is not in the pool any more")
            self._backend.install(piece.block, parcel)

    def _fill_snapshot(self, state: Parcel, _: list[Piece], block: int | None) -> None:
        if block is not None:
            self._backend.install(block, state)

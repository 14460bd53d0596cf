"""Reuse: nothing is computed twice that a row before has computed.

Every row gets the longest cached beginning of its tokens when it is seated.
What it computes beyond is kept when it ends, when it is parked, and as soon
as others wait for it. The cache changes speed, never meaning: what cannot be
kept or read back is computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from workers.cache import chain
from workers.cache.disk import DiskTier
from workers.cache.prefix import LEAST_TOKENS, NOTHING, Piece
from workers.cache.prefix_cache import PrefixCache
from workers.engine.admission import Admission
from workers.engine.backend import Backend, OutOfMemory
from workers.engine.limits import Limits
from workers.engine.prefill import PrefillPace
from workers.engine.promises import Promises
from workers.engine.restoring import Restoring
from workers.engine.saving import Saving
from workers.engine.sequence import Sequence

log = logging.getLogger(__name__)

EVICT_ABOVE = 0.8
"""Part of the pool from which on what nobody has pinned makes room before it is asked for."""

SPILL_ABOVE = 0.9
"""The same for what agents have pinned, which goes to disk."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Tokens of an agent's conversation that are cached, in memory and on disk."""

    owner: str
    in_memory: int
    on_disk: int


class Reuse:
    """Stands between the engine's rows and the cache of prefixes."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        disk: DiskTier | None,
        pace: PrefillPace,
        clock: Callable[[], float],
    ) -> None:
        info = backend.info
        self._backend = backend
        self._clock = clock
        self.saving = Saving(backend, disk, limits.save_seconds, clock)
        self.cache = PrefixCache(
            info.spec, info.blocks_fingerprint, limits.pool_bytes, backend.drop, spill=self.saving.spill
        )
        self._restoring = Restoring(backend, self.cache, disk, pace, clock)
        self._promises = Promises()
        self._version = 0
        self.reused_tokens = 0

    # Before a row is seated.

    def arrive(self, sequence: Sequence) -> None:
        """A newcomer: find its milestones, and have what is on disk read while it waits."""
        if self.cache.pool.budget:
            sequence.milestones = tuple(self._milestones(sequence.admission))
            self._look_up(sequence)
            self._restoring.begin(sequence)

    def ready(self, waiting: Iterable[Sequence], *, nap: bool) -> list[Sequence]:
        """Those who wait for nothing from disk, with what is cached for each now.

        With ``nap`` there is nothing else to do: what is read from disk is waited for, a little.
        """
        now = self._clock()
        is_awaited = any(sequence.restoring_until > now for sequence in waiting)
        if self._restoring.finish(nap=nap and is_awaited):
            self._version += 1
        ready = [sequence for sequence in waiting if sequence.restoring_until <= now]
        for sequence in ready:
            self._look_up(sequence)
        return ready

    def allowed(self, joining: list[Sequence]) -> list[Sequence]:
        """Leave of ``joining`` those for whom nobody computes a longer beginning than they have."""
        allowed: list[Sequence] = []
        for sequence in joining:
            if not self._waits(sequence):
                self._promises.make(sequence)
                allowed.append(sequence)
        return allowed

    def _waits(self, sequence: Sequence) -> bool:
        """Whether a leader computes what this one lacks; who lacks what a leader has already gets it now."""
        found = self._promises.leader(sequence)
        if found is None:
            return False
        leader, position = found
        can_be_cut = self.cache.spec.can_be_cut
        common = _common(leader, sequence, position) if can_be_cut else position
        if leader.read < common:
            return True
        if can_be_cut:
            self._keep(leader, leader.tokens[:common])
            self._look_up(sequence)
        return False

    def refresh(self, sequences: Iterable[Sequence]) -> None:
        """Rows are seated now: what has been evicted since they were looked at is not theirs any more."""
        for sequence in sequences:
            self._look_up(sequence)

    def seated(self, sequences: Iterable[Sequence]) -> None:
        """Rows have joined the batch with their prefixes."""
        for sequence in sequences:
            prefix = sequence.prefix
            self.cache.use(sequence.tokens, sequence.admission.salt, prefix)
            sequence.read = prefix.length
            if sequence.cached is None:
                sequence.cached = min(prefix.length, len(sequence.admission.tokens))
                self.reused_tokens += sequence.cached

    def joined(self, allowed: Iterable[Sequence]) -> None:
        """Those who were allowed to join have joined, or never will: then nobody waits for them."""
        self.lost(sequence for sequence in allowed if sequence.uid is None)

    # While it runs, and when it leaves.

    def progressed(self, sequence: Sequence, read: int) -> None:
        """A row's prompt has been read so far: of one that cannot be cut, what is at a boundary is kept."""
        sequence.read = read
        if read in sequence.admission.boundaries:
            self._keep(sequence, sequence.tokens[:read])

    def leaves(self, sequence: Sequence, last: int | None = None) -> None:
        """A row ends or is parked: keep what its cache holds, ``last`` being behind its own tokens."""
        admission = sequence.admission
        self._promises.withdraw(sequence)
        if sequence.uid is None or not self.cache.pool.budget:
            return
        tokens = sequence.tokens if last is None else [*sequence.tokens, last]
        if admission.only_reads:
            tokens = tokens[: len(admission.tokens)]
        tokens = tokens[: self._backend.computed(sequence.uid)]
        self._keep(sequence, tokens)
        # A beginning that is read ahead does not take the place of a conversation that is there.
        if admission.owner is not None and not (admission.only_reads and self.cache.held(admission.owner)):
            self.cache.pin(admission.owner, tokens, admission.salt)
            self.saving.used(admission.owner)

    def lost(self, sequences: Iterable[Sequence]) -> None:
        """Rows were lost with their batch, or failed: nothing of them is kept."""
        for sequence in sequences:
            self._promises.withdraw(sequence)

    @property
    def restored_tokens(self) -> int:
        """Tokens read back from disk so far."""
        return self._restoring.restored_tokens

    def make_room(self) -> None:
        """The device ran out of memory: what nobody has pinned goes first."""
        self.cache.evict_to(0.0)
        self._version += 1

    def tidy(self) -> None:
        """Make room before it is asked for, and write what is due."""
        if self.cache.pool.pressure > EVICT_ABOVE:
            self.cache.evict_to(EVICT_ABOVE)
            if self.cache.pool.pressure > SPILL_ABOVE:
                self.cache.evict_to(SPILL_ABOVE, pinned=True)
            self._version += 1
        self.saving.go_on(self.cache)

    def save(self, owner: str, answer: Future[int]) -> None:
        """Write an agent's conversation to disk now."""
        self.saving.now(self.cache, owner, answer)

    def forget(self, owner: str, answer: Future[int]) -> None:
        """An agent is no more: what only it had goes, in memory and on disk."""
        held = self.cache.held(owner)
        self.cache.forget(owner)
        self.saving.forget(owner, held, answer)
        self._version += 1

    def close(self) -> None:
        """The engine stops: what agents have goes to disk, and nothing stays in memory."""
        owners = self.cache.owners()
        self.saving.all_now(self.cache)
        self.saving.changed.update(owners)
        self.cache.clear()

    def holdings(self) -> dict[str, Holding]:
        """What agents have cached, of those for whom that may have changed since the last call."""
        changed, self.saving.changed = self.saving.changed, set()
        return {owner: Holding(owner, self.cache.held(owner), self.saving.stored(owner)) for owner in changed}

    # What they are made of.

    def _keep(self, sequence: Sequence, tokens: list[int]) -> None:
        """Keep the cache of a row's beginning; of one that cannot be cut only as it is at this moment."""
        uid, admission, can_be_cut = sequence.uid, sequence.admission, self.cache.spec.can_be_cut
        if uid is None or not self.cache.pool.budget:
            return
        computed = self._backend.computed(uid)
        if computed <= sequence.prefix.length or not (can_be_cut or computed == len(tokens)):
            return

        def fill(pieces: list[Piece], snapshot: int | None) -> None:
            self._backend.keep(uid, pieces, snapshot)

        try:
            self.cache.store(tokens, admission.salt, fill, owner=admission.owner, snapshot=not can_be_cut)
        except OutOfMemory:
            log.warning("No memory to keep %d tokens; what nobody has pinned goes", len(tokens))
            self.make_room()
        except Exception:
            log.warning("%d tokens could not be kept", len(tokens), exc_info=True)
        self._version += 1

    def _look_up(self, sequence: Sequence) -> None:
        if sequence.seen != self._version:
            sequence.seen = self._version
            tokens = sequence.tokens
            prefix = self.cache.match(tokens, sequence.admission.salt, len(tokens) - 1)
            sequence.prefix = prefix if prefix.length >= LEAST_TOKENS else NOTHING

    def _milestones(self, admission: Admission) -> Iterator[tuple[int, bytes]]:
        """Where others may have the same beginning: at whole blocks, or at boundaries if it cannot be cut."""
        name = self.cache.root(admission.salt)
        whole = range(chain.BLOCK_TOKENS, len(admission.tokens), chain.BLOCK_TOKENS)
        stops = whole if self.cache.spec.can_be_cut else admission.boundaries
        start = 0
        for stop in stops:
            name = chain.link(name, admission.tokens[start:stop])
            start = stop
            yield stop, name


def _common(one: Sequence, other: Sequence, least: int) -> int:
    """Tokens that two prompts have in common, which are at least ``least``."""
    pairs = zip(one.admission.tokens[least:], other.admission.tokens[least:-1], strict=False)
    return least + next((at for at, (mine, its) in enumerate(pairs) if mine != its), 0)

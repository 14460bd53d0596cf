"""The books of a pool: which blocks there are, what each takes, how often it is held."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock


class PoolFull(RuntimeError):  # noqa: N818 - named for what happened, not for being an error
    """The pool has no room for a block."""


@dataclass(slots=True)
class _Block:
    nbytes: int
    references: int = 1


class BlockPool:
    """Counts bytes and references; the contents lie with the backend.

    A block's id is never used again. ``used + free_bytes == budget`` at any
    time; ``free_bytes`` is below zero after the budget became smaller than
    what is held, and nothing is allocated until enough was freed. Any thread
    may call it.
    """

    def __init__(self, budget: int) -> None:
        self._lock = Lock()
        self._blocks: dict[int, _Block] = {}
        self._next = 1
        self._used = 0
        self._budget = 0
        self.reconfigure(budget)

    @property
    def budget(self) -> int:
        """Bytes that all blocks may take."""
        return self._budget

    @property
    def used(self) -> int:
        """Bytes that all blocks take."""
        return self._used

    @property
    def free_bytes(self) -> int:
        """Bytes that are left; negative after the budget was made smaller."""
        with self._lock:
            return self._budget - self._used

    @property
    def pressure(self) -> float:
        """What part of the budget is used; 1 of a budget of nothing."""
        with self._lock:
            return self._used / self._budget if self._budget else 1.0

    def reconfigure(self, budget: int) -> None:
        """Change the budget, in bytes; blocks stay. Raises ValueError for a negative one."""
        if budget < 0:
            raise ValueError(f"a pool cannot have {budget} bytes")
        with self._lock:
            self._budget = budget

    def can_allocate(self, nbytes: int) -> bool:
        """Whether a block of so many bytes would fit now."""
        with self._lock:
            return self._used + nbytes <= self._budget

    def allocate(self, nbytes: int) -> int:
        """Enter a new block, held once; returns its id. Raises :class:`PoolFull`, ValueError for no bytes."""
        if nbytes <= 0:
            raise ValueError(f"a block cannot have {nbytes} bytes")
        with self._lock:
            if self._used + nbytes > self._budget:
                raise PoolFull(f"{nbytes} bytes do not fit: {self._used} of {self._budget} are used")
            block = self._next
            self._next += 1
            self._blocks[block] = _Block(nbytes)
            self._used += nbytes
            return block

    def share(self, block: int) -> None:
        """Hold a block once more. Raises KeyError for one that is not held."""
        with self._lock:
            self._blocks[block].references += 1

    def free(self, block: int) -> bool:
        """Hold a block once less; whether that was the last time and its bytes are free.

        Raises KeyError for one that is not held.
        """
        with self._lock:
            entry = self._blocks[block]
            entry.references -= 1
            if entry.references:
                return False
            del self._blocks[block]
            self._used -= entry.nbytes
            return True

    def size(self, block: int) -> int:
        """Bytes of a block. Raises KeyError for one that is not held."""
        with self._lock:
            return self._blocks[block].nbytes

    def blocks(self) -> set[int]:
        """Ids of all blocks that are held."""
        with self._lock:
            return set(self._blocks)

    def check_integrity(self) -> None:
        """Raise AssertionError unless the sum of all blocks is what is used."""
        with self._lock:
            total = sum(entry.nbytes for entry in self._blocks.values())
            if total != self._used:
                raise AssertionError(f"blocks take {total} bytes, the books say {self._used}")
            if any(entry.references < 1 for entry in self._blocks.values()):
                raise AssertionError("a block that nobody holds is in the books")
            if any(not 0 < block < self._next for block in self._blocks):
                raise AssertionError("a block has an id that was never given")

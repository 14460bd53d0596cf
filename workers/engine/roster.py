"""The roster: which jobs the engine holds, who waits, and who sits in the batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workers.engine.sequence import Sequence

Key = tuple[str, int]


class Roster:
    """Every job is in ``waiting`` or in ``live``, never in both; ``live`` is by the backend's uid."""

    def __init__(self) -> None:
        self.waiting: list[Sequence] = []
        self.live: dict[int, Sequence] = {}
        self._jobs: dict[Key, Sequence] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(list(self._jobs.values()))

    def __contains__(self, key: Key) -> bool:
        return key in self._jobs

    def find(self, key: Key) -> Sequence | None:
        """The sequence of an attempt, or None."""
        return self._jobs.get(key)

    def add(self, sequence: Sequence) -> None:
        """Put a newcomer at the end of those who wait."""
        self._jobs[sequence.admission.key] = sequence
        self.waiting.append(sequence)

    def seat(self, sequences: Iterable[Sequence], uids: Iterable[int]) -> None:
        """Move sequences from waiting into the batch."""
        for sequence, uid in zip(sequences, uids, strict=True):
            sequence.uid = uid
            self.live[uid] = sequence
        self.waiting = [sequence for sequence in self.waiting if sequence.uid is None]

    def remove(self, sequence: Sequence) -> int | None:
        """Forget a sequence; return the uid it sat at, if it did."""
        del self._jobs[sequence.admission.key]
        uid, sequence.uid = sequence.uid, None
        if uid is None:
            self.waiting = [other for other in self.waiting if other is not sequence]
        else:
            del self.live[uid]
        return uid

    def unseat_all(self) -> None:
        """Send the whole batch back to the front of those who wait, in the order they joined."""
        back = list(self.live.values())
        self.live.clear()
        for sequence in back:
            sequence.uid = None
        self.waiting = back + self.waiting

    def check_integrity(self) -> None:
        """Raise AssertionError unless the lists and the uids agree."""
        held = [id(sequence) for sequence in (*self.waiting, *self.live.values())]
        _hold(len(held) == len(set(held)), "a job is held twice")
        _hold(set(held) == {id(sequence) for sequence in self._jobs.values()}, "a job is lost or left over")
        _hold(all(sequence.uid == uid for uid, sequence in self.live.items()), "a row has a wrong uid")
        _hold(all(sequence.uid is None for sequence in self.waiting), "a waiting job has a row")


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)

"""The states of a job and the ways between them.

The diagram in the documentation is drawn from :data:`TRANSITIONS`; a test
compares both with what :mod:`models.jobs` does.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class State(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Priority(IntEnum):
    """The class of a job in its queue; lower goes first."""

    INTERACTIVE = 0
    STANDARD = 1
    BACKGROUND = 2


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})
"""States that never change again."""

WAITING = frozenset({State.SCHEDULED, State.QUEUED})
"""States in which nothing has been taken by a worker."""

TRANSITIONS: dict[str, tuple[frozenset[State], State]] = {
    "promote": (frozenset({State.SCHEDULED}), State.QUEUED),
    "claim": (frozenset({State.QUEUED}), State.RUNNING),
    "succeed": (frozenset({State.RUNNING}), State.SUCCEEDED),
    "fail": (frozenset({State.RUNNING}), State.FAILED),
    "stop": (frozenset({State.RUNNING}), State.CANCELLED),
    "lapse": (frozenset({State.RUNNING}), State.EXPIRED),
    "retry": (frozenset({State.RUNNING}), State.SCHEDULED),
    "hand_back": (frozenset({State.RUNNING}), State.QUEUED),
    "cancel": (WAITING, State.CANCELLED),
    "expire": (WAITING, State.EXPIRED),
}
"""Each way by its name: the states it may start from, and the one it leads to."""

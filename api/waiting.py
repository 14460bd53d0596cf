"""Long-polls: waiting for an end without holding a thread or a session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from api.door import Desk
from api.problems import invalid
from api.wire.problem import Fault

LOOK_ROUND = 5.0
"""How often a waiting request makes sure that its client is still there, in seconds."""

Wait = Annotated[
    float,
    Query(
        ge=0, le=3_600, allow_inf_nan=False, description="Seconds to wait for the end; 60 at most by default."
    ),
]


View = TypeVar("View")


async def seen(
    desk: Desk,
    request: Request,
    key: str,
    seconds: float,
    look: Callable[[Desk, str], View],
    is_over: Callable[[View], bool],
) -> View:
    """What ``look`` shows of a job, bulk or command: now, or when it has ended or the seconds are over.

    Raises:
        Problem: 422, the wait is longer than the settings allow; and what ``look`` raises.
    """
    _check(desk, seconds)
    view = await run_in_threadpool(look, desk, key)
    if seconds and not is_over(view):
        await _ended(desk, request, key, seconds)
        view = await run_in_threadpool(look, desk, key)
    return view


async def _ended(desk: Desk, request: Request, key: str, seconds: float) -> bool:
    """Wait until a job, bulk or command has ended or is gone; False when time, client or service ended first.

    Raises:
        Problem: 422, the wait is longer than the settings allow.
    """
    watcher = desk.door.watcher
    deadline = time.monotonic() + seconds
    with watcher.watch(key) as watch:
        while not watcher.closed and (left := deadline - time.monotonic()) > 0:
            if not await watch.change(min(left, LOOK_ROUND)):
                if await request.is_disconnected():
                    return False
            elif watch.seen and is_end(watch.state):
                return True
    return False


def is_end(state: object) -> bool:
    """Whether what the watcher saw is an end: gone, a bulk or command that is over, a job that has ended."""
    return state is None or state is True or (isinstance(state, tuple) and bool(state[1]))


def _check(desk: Desk, seconds: float) -> None:
    """Refuse waits that are too long.

    Raises:
        Problem: 422.
    """
    most = desk.settings.server.wait_max_seconds
    if seconds > most:
        raise invalid([Fault(field="wait", message=f"at most {most:g} seconds")])

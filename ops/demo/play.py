"""Submitting the work through HTTP and waiting for all of it, with somebody watching or not."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ops.client import Client
from ops.complaint import Complaint
from ops.demo.work import Entry, Work, body
from ops.show import say
from ops.waiting import bar, count_ended
from ops.wire import ENDED, Job

LOOK_SECONDS = 0.5
STALL_SECONDS = 1_800.0

TELL_SECONDS = 10.0
"""How often a line is printed where there is no terminal for a bar."""

Done = tuple[Entry, Job]


@dataclass
class Progress:
    """How many jobs have ended, counted from several threads; ``leaving`` tells them to stop waiting."""

    total: int
    in_bulk: int = 0
    leaving: threading.Event = field(default_factory=threading.Event)
    _others: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self) -> None:
        """One job outside the bulk has ended."""
        with self._guard:
            self._others += 1

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.in_bulk + self._others


@dataclass(frozen=True)
class Played:
    """Every entry that was submitted, with its job when it had ended, and how long all took."""

    done: tuple[Done, ...]
    seconds: float


def play(connect: Callable[[], Client], work: Work) -> Played:
    """Submit all work at once, the turns of a conversation one after the other, and wait.

    Raises:
        Complaint: the service went away, refused something, or ended nothing for half an hour.
    """
    progress = Progress(work.total)
    begun = time.monotonic()
    with ThreadPoolExecutor(len(work.conversations) + len(work.alone) + 1) as pool:
        try:
            parts: list[Future[list[Done]]] = [pool.submit(_bulk, connect, work.bulk, progress)]
            parts += [pool.submit(_talk, connect, turns, progress) for turns in work.conversations]
            parts += [pool.submit(_talk, connect, [entry], progress) for entry in work.alone]
            _watch(parts, progress)
        finally:
            progress.leaving.set()
        done = [pair for part in parts for pair in part.result()]
    return Played(tuple(done), time.monotonic() - begun)


def _talk(connect: Callable[[], Client], turns: Sequence[Entry], progress: Progress) -> list[Done]:
    """One conversation: each turn holds all earlier lines and the answers that came."""
    done: list[Done] = []
    earlier: list[tuple[str, str]] = []
    with connect() as client:
        for entry in turns:
            job = client.submit(body(entry, earlier), idempotency_key=uuid.uuid4().hex)
            while job["state"] not in ENDED and not progress.leaving.is_set():
                job = client.wait(job["id"], LOOK_SECONDS)
            progress.add()
            done.append((entry, job))
            if job["result"] is None:
                break
            earlier.append((entry.line.text, job["result"]["text"]))
    return done


def _bulk(connect: Callable[[], Client], entries: Sequence[Entry], progress: Progress) -> list[Done]:
    """Many jobs in one request; their answers are told apart by the metadata that they carry."""
    with connect() as client:
        bulk = client.bulk(body(entry) for entry in entries)
        while not bulk["ended"] and not progress.leaving.is_set():
            progress.in_bulk = count_ended(bulk)
            bulk = client.bulk_state(bulk["id"], wait=LOOK_SECONDS)
        progress.in_bulk = count_ended(bulk)
        by_name = {entry.name: entry for entry in entries}
        jobs = reversed(list(client.jobs(bulk=bulk["id"])))  # they come newest first
        return [(by_name[job["metadata"]["line"]], job) for job in jobs]


def _watch(parts: Sequence[Future[list[Done]]], progress: Progress) -> None:
    """A bar that follows the jobs, or a line now and then; returns when all parts are through."""
    told, moved, seen = time.monotonic(), time.monotonic(), 0
    with bar(progress.total) as shown:
        row = shown.tasks[0].id
        while not all(part.done() for part in parts):
            time.sleep(0.1)
            for part in parts:
                if part.done():
                    part.result()  # raises what ended it
            now = time.monotonic()
            if progress.done != seen:
                seen, moved = progress.done, now
            elif now - moved > STALL_SECONDS:
                raise Complaint(f"No job has ended for {STALL_SECONDS:g} s; {seen} of {progress.total} had.")
            shown.update(row, completed=seen, description="reading lines")
            if shown.disable and now - told >= TELL_SECONDS:
                told = now
                say(f"{seen} of {progress.total} jobs have ended")

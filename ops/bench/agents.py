"""Many agents with a few turns each, all at once, beside ``mlx_lm.server`` as it comes and at its best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ops.bench.door import Door
from ops.bench.figure import Figure
from ops.bench.peer import Peer
from ops.bench.statistics import median, take_turns
from ops.bench.subjects import Bench
from ops.bench.texts import Texts
from ops.complaint import Complaint
from ops.service import Service

DEFAULT_TARGET, BEST_TARGET, BYTES_TARGET = 3.0, 1.1, 2.0
SYSTEM, USER, OUT = 1_000, 200, 32

ROOM = ("--prompt-cache-size", "64")
"""Twice as many places as there are agents: with fewer than agents it computes nearly everything anew."""

CANDIDATES: tuple[tuple[str, ...], ...] = (
    ROOM,
    (*ROOM, "--prompt-concurrency", "32"),
    (*ROOM, "--prompt-concurrency", "2"),
    (*ROOM, "--prefill-step-size", "512"),
)
"""Settings of ``mlx_lm.server`` that are tried once each; the quickest is its best."""

Chat = list[dict[str, str]]


class Server(Protocol):
    """What answers a turn of a conversation."""

    def door(self) -> Door:
        """A way in for one client."""

    def turn(self, door: Door, agent: str, messages: Chat) -> dict[str, Any]:
        """The ``text`` and the ``usage`` of the answer to a conversation."""

    def cache_bytes(self) -> float:
        """Bytes that are kept for later turns, at rest."""


class Theirs:
    """``mlx_lm.server``; it knows no agents."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.door = peer.door
        self.cache_bytes = peer.cache_bytes

    def turn(self, door: Door, agent: str, messages: Chat) -> dict[str, Any]:  # noqa: ARG002 - as said
        """One request."""
        return self._peer.chat(door, messages, OUT)


class Ours:
    """A service; a turn is a job, stored and waited for."""

    def __init__(self, service: Service) -> None:
        self._url = service.url
        self._key = (service.folder / "api-key").read_text(encoding="utf-8").strip()

    def door(self) -> Door:
        """A way in for one client."""
        return Door(self._url, self._key)

    def turn(self, door: Door, agent: str, messages: Chat) -> dict[str, Any]:
        """One submission, and the wait for its end."""
        job = door.post("/v1/jobs", {"messages": messages, "max_tokens": OUT, "agent": agent})
        while job["finished_at"] is None:
            job = door.get(f"/v1/jobs/{job['id']}?wait=30")
        if job["result"] is None:
            raise Complaint(f"A job {job['state']}: {job['error']}")
        return {"text": job["result"]["text"], "usage": job["usage"]}

    def cache_bytes(self) -> float:
        """Bytes of the pool, as the worker tells them with its heartbeat."""
        time.sleep(REST_SECONDS)
        with self.door() as door:
            workers = door.get("/v1/workers")["data"]
        return float(sum(worker["figures"].get("pool_bytes", 0) for worker in workers))


REST_SECONDS = 2.5
"""Until a heartbeat has told how things are at rest."""


@dataclass
class Played:
    """What the rounds of one server gave."""

    seconds: list[float] = field(default_factory=list)
    cache_bytes: float = 0.0
    cached: list[int] = field(default_factory=list)


class Crowd:
    """Agents with turns that begin with a system message they share, new in every round."""

    def __init__(self, agents: int, turns: int) -> None:
        self._agents, self._turns = agents, turns
        self._texts = Texts()
        self._rounds = 0

    def play(self, server: Server, played: Played) -> float:
        """One round; returns and notes its seconds, in the first one also the bytes that it left behind."""
        self._rounds += 1
        before = 0.0 if played.seconds else server.cache_bytes()
        system = {"role": "system", "content": self._texts.take(SYSTEM)}
        says = [[self._texts.take(USER) for _ in range(self._turns)] for _ in range(self._agents)]
        begun = time.perf_counter()
        with ThreadPoolExecutor(self._agents) as pool:
            cached = list(pool.map(lambda at: self._talk(server, at, system, says[at]), range(self._agents)))
        seconds = time.perf_counter() - begun
        if not played.seconds:
            played.cache_bytes = server.cache_bytes() - before
        played.seconds.append(seconds)
        played.cached.append(sum(cached))
        return seconds

    def _talk(self, server: Server, at: int, system: dict[str, str], says: Sequence[str]) -> int:
        """One agent's turns, each with the answers it got; returns the prompt tokens that were cached."""
        chat, cached, agent = [system], 0, f"agent-{self._rounds}-{at}"
        with server.door() as door:
            for text in says:
                chat.append({"role": "user", "content": text})
                answer = server.turn(door, agent, chat)
                if answer["usage"]["completion_tokens"] != OUT:
                    raise Complaint("An answer ended early: the runs do not compare.")
                cached += cached_of(answer["usage"])
                chat.append({"role": "assistant", "content": answer["text"]})
        return cached


def measure(bench: Bench) -> Iterator[Figure]:
    """Makespans of ``mlx_lm.server`` ÷ ours, and the bytes of its cache ÷ ours."""
    subject, effort = bench.light, bench.effort
    crowd = Crowd(effort.agents, effort.turns)
    best = _best(bench, crowd)
    with ExitStack() as stack:
        service = Service(bench.place("agents"), {"llms.pico.path": str(subject.folder)})
        servers: dict[str, Server] = {
            "default": Theirs(stack.enter_context(_peer(bench, "default", ()))),
            "best": Theirs(stack.enter_context(_peer(bench, "best", best))),
            "ours": Ours(stack.enter_context(service)),
        }
        played = {name: Played() for name in servers}
        sides: dict[str, Callable[[], float]] = {
            name: partial(crowd.play, server, played[name]) for name, server in servers.items()
        }
        take_turns(effort.rounds, sides)
    details = {
        "llm": subject.name, "device": bench.device, "agents": effort.agents, "turns": effort.turns,
        "tokens": {"system": SYSTEM, "user": USER, "out": OUT},
        "seconds": {name: one.seconds for name, one in played.items()},
        "cache_bytes": {name: one.cache_bytes for name, one in played.items()},
        "cached_tokens": {name: one.cached for name, one in played.items()},
    }  # fmt: skip
    yield from _figures(played, effort.agents, effort.turns, details, best)


def _figures(
    played: dict[str, Played], agents: int, turns: int, details: dict[str, Any], best: Sequence[str]
) -> Iterator[Figure]:
    what, ours = f"{agents} agents × {turns} turns", median(played["ours"].seconds)
    for name, target in (("default", DEFAULT_TARGET), ("best", BEST_TARGET)):
        options = " ".join(best if name == "best" else ())
        yield Figure(
            f"{what}, mlx_lm.server with its {name} settings ÷ ours",
            median(played[name].seconds) / ours, "", "at least", target, {**details, "options": options},
        )  # fmt: skip
    yield Figure(
        f"{what}, cache bytes of mlx_lm.server with its best settings ÷ ours",
        played["best"].cache_bytes / played["ours"].cache_bytes, "", "at least", BYTES_TARGET, details,
    )  # fmt: skip


def _best(bench: Bench, crowd: Crowd) -> tuple[str, ...]:
    """The options with which ``mlx_lm.server`` was quickest in one round each."""
    seconds: dict[tuple[str, ...], float] = {}
    for options in CANDIDATES[: bench.effort.candidates]:
        with _peer(bench, "candidate", options) as peer:
            seconds[options] = crowd.play(Theirs(peer), Played())
    return min(seconds, key=lambda options: seconds[options])


def _peer(bench: Bench, name: str, options: Sequence[str]) -> Peer:
    return Peer(bench.light.folder, bench.place(f"mlx-lm-{name}.log"), options)


def cached_of(usage: dict[str, Any]) -> int:
    """Cached prompt tokens, in either dialect."""
    ours = usage.get("cached_tokens")
    return int(usage["prompt_tokens_details"]["cached_tokens"] if ours is None else ours)

"""Clients that do not give up: each sends its submission under one key until it is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

PAUSE_SECONDS = 0.02
BULK = 20
AGENTS = 8


@dataclass
class Promises:
    """What clients were told; what was told must come true, and nothing else may have happened."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Idempotency key to the id of the job that was accepted under it."""
    bulks: dict[str, str] = field(default_factory=dict)
    """Idempotency key to the id of the bulk."""
    agents: dict[str, list[str]] = field(default_factory=dict)
    """Ids of an agent's jobs, in the order in which its one client sent them."""
    refusals: dict[int, int] = field(default_factory=dict)
    """Answers other than 202, by status; each was followed by another try."""

    @property
    def count(self) -> int:
        """How many jobs were accepted."""
        return len(self.jobs) + BULK * len(self.bulks)


class Crowd:
    """Some clients that submit until ``at_least`` jobs are accepted and nobody wants more of them."""

    def __init__(self, url: str, key: str, at_least: int, seed: int, clients: int = 4) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._at_least = at_least
        self._enough = threading.Event()
        self._guard = threading.Lock()
        self.promises = Promises()
        self._threads = [
            threading.Thread(target=self._visit, args=(number, Random(f"{seed}/{number}")), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Let them go once they have submitted what they must; returns when they are gone."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, number: int, rng: Random) -> None:
        with httpx2.Client(base_url=self._url, headers=self._headers, timeout=30, trust_env=False) as client:
            for key in self._keys(number):
                if rng.random() < 1 / BULK:
                    jobs = [_body(rng, f"{key}-{place}") for place in range(BULK)]
                    self._keep(key, self._insist(client, "/v1/bulk", key, {"jobs": jobs}), None)
                else:
                    agent = f"agent-{number}-{rng.randrange(AGENTS)}" if rng.random() < 0.3 else None
                    body = _body(rng, key) | ({"agent": agent} if agent else {})
                    self._keep(key, self._insist(client, "/v1/jobs", key, body), agent)
                time.sleep(rng.random() * PAUSE_SECONDS)

    def _keys(self, number: int) -> Iterator[str]:
        turn = 0
        while self.promises.count < self._at_least or not self._enough.is_set():
            yield f"client-{number}-{turn}"
            turn += 1

    def _keep(self, key: str, answer: dict[str, Any], agent: str | None) -> None:
        with self._guard:
            (self.promises.bulks if answer["object"] == "bulk" else self.promises.jobs)[key] = answer["id"]
            if agent is not None:
                self.promises.agents.setdefault(agent, []).append(answer["id"])

    def _insist(self, client: httpx2.Client, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send until it is taken: a lost answer and a refusal are alike to who must have it done."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        while True:
            try:
                answer = client.post(path, content=json.dumps(body), headers=headers)
            except httpx2.TransportError:
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code == 202:
                return dict(answer.json())
            if answer.status_code < 429:
                raise AssertionError(f"{path} answered {answer.status_code}: {answer.text}")
            with self._guard:
                refusals = self.promises.refusals
                refusals[answer.status_code] = refusals.get(answer.status_code, 0) + 1
            time.sleep(PAUSE_SECONDS)


def _body(rng: Random, text: str) -> dict[str, Any]:
    return {"prompt": f"job {text}", "max_tokens": rng.choice((8, 16, 32))}

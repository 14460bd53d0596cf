"""An engine as the inference worker runs it, with no queue and no database around it.

``python -m ops.bench.boundary_program SETTINGS`` (JSON) loads the default LLM, then answers each JSON line
on its input; :mod:`ops.bench.boundary` asks, and says what.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, cast

from config.settings import Settings
from models.requests import Sampling
from workers.backends import make_backend
from workers.cache.disk import DiskTier
from workers.conversations import make_disk
from workers.engine import Admission, Delta, EngineThread, Failed, Finished, LlmInfo, Output
from workers.engine.backend import Backend, Detokenizer
from workers.engine.limits import limits_of

PATIENCE_SECONDS = 600.0

HELD_BACK = "·"
"""Stands for text that is not certain yet, so that each token is told at once."""


class ToldText:
    """A detokenizer that has something to say of every token."""

    def __init__(self, inner: Detokenizer) -> None:
        self._inner = inner

    def push(self, token: int) -> str:
        """Take one token; return its text, or the sign that stands for it."""
        return self._inner.push(token) or HELD_BACK

    def flush(self) -> str:
        """Return the rest."""
        return self._inner.flush()


class Telling:
    """A backend whose detokenizers tell every token; all else is its own."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def detokenizer(self) -> ToldText:
        """Make a detokenizer for one row."""
        return ToldText(self._backend.detokenizer())


@dataclass
class Seen:
    """What is seen of a row; instants are seconds since its run began."""

    submitted: float = 0.0
    tokens: list[float] = field(default_factory=list)
    ended: float = 0.0
    cached: int = 0


class Host:
    """Runs the engine and watches what it says."""

    def __init__(self, settings: Settings) -> None:
        self._disk: DiskTier | None = None
        self._settings = settings
        self._engine = EngineThread(
            lambda: cast(Backend, Telling(make_backend(settings, settings.default_llm))),
            limits_of(settings.engine),
            self._hear,
            make_disk=self._make_disk,
        )
        self._changed = threading.Condition()
        self._numbers = count()
        self._began = 0.0
        self._seen: dict[str, Seen] = {}
        self._error = ""
        self._peak = 0
        self._engine.start()
        self._info = self._engine.ready()
        self._settled()  # it has looked at what is on disk

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        if "rows" in asked:
            return {"rows": [asdict(seen) for seen in self.run(asked["rows"], asked["until"])]}
        if "save" in asked:
            return {"tokens": self.save(asked["save"])}
        return self.stats()

    def run(self, rows: Sequence[dict[str, Any]], until: int | None) -> list[Seen]:
        """Hand rows over, now or when it is their turn, and wait until they have ended."""
        keys = [f"job_{next(self._numbers)}" for _ in rows]
        admissions = [self._admission(key, row) for key, row in zip(keys, rows, strict=True)]
        with self._changed:
            self._seen = {key: Seen() for key in keys}
            self._peak, self._began = 0, time.perf_counter()
        for after in sorted({row["after"] for row in rows}):
            self._wait(lambda after=after: len(self._seen[keys[0]].tokens) >= after)
            due = [one for one, row in zip(admissions, rows, strict=True) if row["after"] == after]
            self._submit(due)
        if until is not None:
            self._wait(lambda: self._seen[keys[until]].ended > 0)
            for key in keys:
                self._engine.cancel(key, 1)
        self._wait(lambda: all(seen.ended for seen in self._seen.values()))
        return [self._seen[key] for key in keys]

    def stats(self) -> dict[str, Any]:
        """The engine's figures once it rests, and what they are to be held against."""
        while self._engine.stats().rows:
            time.sleep(0.01)
        return {
            **asdict(self._engine.stats()),
            "peak_live_bytes": self._peak,
            "token_bytes": self._info.spec.token_bytes,
        }

    def save(self, agent: str) -> int:
        """Return when an agent's blocks are on disk."""
        tokens = self._engine.save(agent).result()
        if not self._settled():
            raise RuntimeError("the blocks could not be written")
        return tokens

    def close(self) -> None:
        """Give the device back."""
        self._engine.stop(PATIENCE_SECONDS)

    def _settled(self) -> bool:
        """Wait until nothing is left to be done for the disk; False where it is not used."""
        return self._disk is not None and self._disk.flush(PATIENCE_SECONDS)

    def _make_disk(self, info: LlmInfo) -> DiskTier | None:
        self._disk = make_disk(self._settings, self._settings.default_llm, info)
        return self._disk

    def _admission(self, key: str, row: dict[str, Any]) -> Admission:
        sampling = Sampling(max_tokens=row["max_tokens"], temperature=0)
        return Admission(key, 1, row["tokens"], sampling, owner=row["agent"])

    def _submit(self, admissions: Sequence[Admission]) -> None:
        with self._changed:
            for admission in admissions:
                self._seen[admission.job_id].submitted = time.perf_counter() - self._began
        self._engine.submit(admissions)

    def _wait(self, holds: Any) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._error or holds())
        if self._error:
            raise RuntimeError(self._error)

    def _hear(self, outputs: list[Output]) -> None:
        """Called by the engine's thread."""
        now = time.perf_counter()
        live = self._engine.stats().live_bytes
        with self._changed:
            self._peak = max(self._peak, live)
            for output in outputs:
                self._note(output, now - self._began)
            self._changed.notify_all()

    def _note(self, output: Output, at: float) -> None:
        if isinstance(output, Failed):
            self._error = f"a row failed: {output.type}: {output.message}"
            return
        seen = self._seen[output.job_id]
        if isinstance(output, Delta):
            seen.tokens += [at] * output.n_tokens
        elif isinstance(output, Finished):
            seen.ended, seen.cached = at, output.cached_tokens


def main() -> None:
    """Serve until the input ends."""
    host = Host(Settings.model_validate_json(sys.argv[1]))
    try:
        print(json.dumps({"ready": True}), flush=True)
        for text in sys.stdin:
            print(json.dumps(host.answer(json.loads(text))), flush=True)
    finally:
        host.close()


if __name__ == "__main__":
    main()

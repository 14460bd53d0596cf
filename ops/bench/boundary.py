"""The engine at its own boundary, in a process of its own: rows go in, and each token's instant comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.bench.partner import Partner

ALIAS = "measured"


@dataclass(frozen=True)
class Ask:
    """A row: ``after`` so many tokens of the first row of its run it is handed over, else at once."""

    tokens: Sequence[int]
    max_tokens: int = 1
    agent: str | None = None
    after: int = 0


@dataclass(frozen=True)
class Told:
    """What became of a row; instants are seconds since its run began."""

    submitted: float
    tokens: tuple[float, ...]
    ended: float
    cached: int

    @property
    def first(self) -> float:
        """Seconds from its submission to its first token."""
        return self.tokens[0] - self.submitted


class Boundary(Partner):
    """An :class:`workers.engine.EngineThread` with MLX, as the inference worker has it.

    ``settings`` are those of the section ``engine``; blocks on disk lie in ``folder``.
    """

    def __init__(self, llm: Path, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        chosen = {
            "data_dir": str(folder),
            "default_llm": ALIAS,
            "llms": {ALIAS: {"path": str(llm)}},
            "engine": dict(settings or {}),
        }
        super().__init__("ops.bench.boundary_program", json.dumps(chosen))

    def run(self, rows: Sequence[Ask], until: int | None = None) -> list[Told]:
        """Decode rows until all have ended, or until the one numbered ``until`` has: others are cancelled."""
        answer = self.ask({"rows": [vars(row) for row in rows], "until": until})
        return [Told(**row | {"tokens": tuple(row["tokens"])}) for row in answer["rows"]]

    def stats(self) -> dict[str, Any]:
        """The engine's figures, with the bytes of one token and the most that the live batch had."""
        return self.ask({"stats": True})

    def save(self, agent: str) -> int:
        """Have an agent's blocks written to disk; returns the tokens there."""
        return int(self.ask({"save": agent})["tokens"])

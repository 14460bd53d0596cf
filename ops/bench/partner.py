"""A program in a process of its own, with the inference worker's BLAS: it answers each JSON line with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from config.sources import load
from ops.complaint import Complaint
from ops.supervisor.child import ROOT
from ops.supervisor.up import preloaded


class Partner:
    """Starts with a ``with`` block, which waits for its first line, and is stopped at its end.

    ``module`` is run as ``python -m`` with ``arguments``; ``environment`` comes on top of ours.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._command = (sys.executable, "-P", "-m", module, *arguments)
        self._environment = environment or {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **preloaded(load()), **self._environment},
        )
        try:
            self._read()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a question and wait for its answer.

        Raises:
            Complaint: the program ended instead.
        """
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018 - started with pipes
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018 - as above
        text = self._process.stdout.readline()
        if not text:
            name = Path(self._command[3]).name
            raise Complaint(f"{name} ended without an answer; its reason stands above.")
        answer: dict[str, Any] = json.loads(text)
        return answer


def bare(llm: Path) -> Partner:
    """The yardstick :mod:`workers.backends.bare`, with the engine's own limits."""
    engine = load().engine
    limits = (engine.max_rows, engine.prefill_rows, engine.prefill_tokens)
    return Partner("workers.backends.bare", str(llm), *map(str, limits))

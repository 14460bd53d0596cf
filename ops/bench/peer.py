"""``mlx_lm.server``, the server that mlx-lm brings, on a free port of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

from config.sources import load
from ops.addresses import claim_port
from ops.bench.door import Door
from ops.complaint import Complaint
from ops.supervisor.child import ROOT
from ops.supervisor.up import preloaded

START_SECONDS = 300.0
BYTES_PER_GB = 1e9
STORED = re.compile(r"Prompt Cache: (\d+) sequences, ([\d.]+) GB")
"""What it logs whenever a request comes, of what it keeps."""


class Peer:
    """Starts with a ``with`` block, stops at its end; ``options`` are those of its command line.

    It gets the BLAS that our inference worker gets, and our Python.
    """

    def __init__(self, llm: Path, log: Path, options: Sequence[str] = ()) -> None:
        self._log = log
        self._port = claim_port("127.0.0.1", 0)
        self._command = (
            *(sys.executable, "-P", "-m", "workers.backends.peer", "--model", str(llm)),
            *("--host", "127.0.0.1", "--port", str(self._port), *options),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **preloaded(load())},
            )
        try:
            self._await()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def door(self) -> Door:
        """A way in."""
        return Door(f"http://127.0.0.1:{self._port}")

    def chat(self, door: Door, messages: Sequence[dict[str, str]], tokens: int) -> dict[str, Any]:
        """One turn, greedy: its ``text`` and its ``usage``."""
        body = {"messages": list(messages), "max_tokens": tokens, "temperature": 0}
        answer = door.post("/v1/chat/completions", body)
        return {"text": answer["choices"][0]["message"]["content"] or "", "usage": answer["usage"]}

    def cache_bytes(self) -> float:
        """Bytes of the sequences that it keeps, as it logs them itself (to 10 MB)."""
        with self.door() as door:
            self.chat(door, [{"role": "user", "content": "?"}], 1)  # it tells when it is asked something
        found = STORED.findall(self._log.read_text(encoding="utf-8", errors="replace"))
        if not found:
            raise Complaint("mlx_lm.server does not say what its cache holds.")
        return float(found[-1][1]) * BYTES_PER_GB

    def _await(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                with self.door() as door:
                    self.chat(door, [{"role": "user", "content": "Hello"}], 2)
            except (OSError, HTTPException):
                time.sleep(0.1)
            else:
                return
        words = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise Complaint("mlx_lm.server did not start:\n" + "\n".join(words))

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

"""A service of one's own: ``penstock up`` in a process, for the demo, the benchmarks and tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from config.names import PREFIX
from config.settings import Settings
from ops.client import Client
from ops.complaint import Complaint
from ops.lifeline import Lifeline
from ops.supervisor.child import ROOT, penstock
from ops.supervisor.up import variables

START_SECONDS = 900.0
"""Longest start: an LLM may have to be fetched and loaded."""

STOP_SECONDS = 180.0
"""Longest stop: each process of `up` may take its grace time, one after the other."""


def alone(folder: Path) -> dict[str, Any]:
    """The settings of a service that keeps within ``folder``, where they are not the built-in ones."""
    return {
        "data_dir": folder,
        "database.url": f"sqlite:///{folder / 'penstock.db'}",
        "broker.kind": "sql",
        "live.kind": "sql",
        "server.host": "127.0.0.1",
        "server.port": 0,
        "default_llm": "pico",
        "llms.pico.path": "builtin:pico",
        "engine.backend": "mlx",
        "retention.succeeded_days": 0,
    }


class Service:
    """Starts with a ``with`` block, stops at its end; ``status`` is then the exit status of `up`.

    Every setting is given to it, so that neither the machine's environment nor its ``.env`` has a say.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "up.log"
        self.status: int | None = None
        self.url = ""
        self._settings = {**alone(self.folder), **(settings or {})}
        self._lifeline = Lifeline()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of `up`."""
        assert self._process is not None, "it has not been started"  # noqa: S101 - a mistake of the caller
        return self._process.pid

    def start(self) -> None:
        """Start `up` and wait until it says that it is ready.

        Raises:
            Complaint: it stopped instead, or took too long.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        answer = self.folder / "up.json"
        with self.log.open("ab") as log, answer.open("wb") as said:
            self._process = subprocess.Popen(
                penstock("up", "--json"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                env=self._environment(),
                pass_fds=(self._lifeline.read_end,),
                start_new_session=True,
            )
        try:
            self.url = json.loads(self._first_line(answer))["address"]
        except BaseException:
            self.stop()
            raise

    def _environment(self) -> dict[str, str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        rest = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        given = variables(Settings().model_dump(mode="json")) | variables(self._settings)
        return {**rest, "PYTHONPATH": os.pathsep.join(paths), **given, **self._lifeline.variables()}

    def _first_line(self, answer: Path) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = answer.read_text(encoding="utf-8")
            if text.endswith("\n"):
                return text
            if self._process is not None and self._process.poll() is not None:
                raise Complaint(f"The service did not start:\n{self.last_words()}")
            time.sleep(0.05)
        raise Complaint(f"The service was not ready after {START_SECONDS:g} s:\n{self.last_words()}")

    def client(self) -> Client:
        """A client with the service's first key."""
        key = (self.folder / "api-key").read_text(encoding="utf-8").strip()
        return Client(self.url, key)

    def last_words(self, lines: int = 15) -> str:
        """The end of what `up` and its children wrote."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """Stop it as a person would; returns the exit status, which is 0 for a clean stop."""
        if self._process is None or self.status is not None:
            return self.status or 0
        self._process.send_signal(signal.SIGTERM)
        try:
            self.status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children notice, and stop by themselves
            self.status = self._process.wait()
        self._lifeline.close()
        return self.status

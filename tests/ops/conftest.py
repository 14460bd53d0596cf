"""A service for the client and the commands: the real API over a socket, the fake LLM behind it."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import uvicorn

from api.app import create_app
from api.serve import Server
from config.settings import Broker, Engine, Live, Llm, Settings
from models import keys
from models.base import utcnow
from ops.cli import main
from ops.client import Client
from ops.supervisor.preparation import write_private
from tests.service import Service


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Fail unless ``holds`` comes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@dataclass
class Served:
    """A running service, and how to reach it."""

    url: str
    key: str
    folder: Path

    def client(self) -> Client:
        """A client with the service's key."""
        return Client(self.url, self.key)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


class Penstock(Protocol):
    """Runs the console script without a terminal."""

    def __call__(self, *arguments: str, stdin: str = "") -> Done:
        """Run one command to its end."""


@pytest.fixture
def penstock(monkeypatch: pytest.MonkeyPatch) -> Penstock:
    """The console script in this process, which saves a start of Python for each call."""
    monkeypatch.delenv(
        "PROMETHEUS_MULTIPROC_DIR", raising=False
    )  # put back as it was, whatever a command sets

    def run(*arguments: str, stdin: str = "") -> Done:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["penstock", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
        return Done(int(left.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """API and inference worker in this process, shared by a file's tests; ``poison`` in a prompt fails it."""
    folder = tmp_path_factory.mktemp("data")
    service = Service(
        Settings(
            data_dir=folder,
            broker=Broker(poll_ms=10),
            live=Live(flush_ms=20, poll_ms=10),
            engine=Engine(backend="fake", window_ms=2),
            llms={"pico": Llm(path="fake:spoil=poison&reply_tokens=5")},
        )
    )
    service.start()
    with service.database.write() as session:
        key = keys.create(session, "default", "test", utcnow())
    app = create_app(service.settings, service.database, service.broker)
    server = Server(uvicorn.Config(app, port=0, log_config=None, ws="none", loop="uvloop"), app.state.door)
    thread = threading.Thread(target=server.run)
    thread.start()
    write_private(folder / "api-key", key)
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        write_private(folder / "address", url)
        yield Served(url, key, folder)
    finally:
        server.should_exit = True
        thread.join()
        service.stop()
        service.broker.close()
        service.database.close()

"""Starting while the database is away: workers wait for it, and a stop ends the waiting."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from config.settings import Broker, Settings
from models import workers
from models.database import Database, Unavailable
from tests.repository import PROJECT
from tests.service import PATIENCE, Service, completion, new_job, running_service, wait_until
from workers import outage

MAIN = """
import importlib, itertools, sys
from config.settings import Settings
from models.database import Unavailable
from workers import outage

outage.PAUSE_SECONDS = 0.01
tries = itertools.count(1)

def check(_):
    at = next(tries)
    print(at, flush=True)
    if at <= int(sys.argv[3]):
        raise Unavailable("the server is starting")

main = importlib.import_module(f"workers.{sys.argv[1]}").main
sys.exit(main(Settings.model_validate_json(sys.argv[2]), check))
"""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(outage, "PAUSE_SECONDS", 0.001)


@pytest.fixture
def service(settings: Settings, sqlite_url: str) -> Iterator[Service]:
    """A service that is not started."""
    with running_service(settings, sqlite_url, Broker()) as made:
        yield made


@contextmanager
def program(service: Service, kind: str, away: int) -> Iterator[subprocess.Popen[str]]:
    """A worker whose database does not answer the first so many times; it prints each try."""
    values = service.settings.model_dump(mode="json")
    values["database"]["url"] = service.settings.database_url
    command = [sys.executable, "-c", MAIN, kind, json.dumps(values), str(away)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def read(process: subprocess.Popen[str], lines: int) -> list[str]:
    """What a program prints."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(lines)]


def kinds(service: Service) -> list[str]:
    """The workers that are there."""
    with service.database.read() as session:
        return [worker.kind for worker in workers.alive(session)]


def flaky(act: Callable[..., None]) -> Callable[..., None]:
    """The same, but the first time the database is away."""
    tries = itertools.count()

    def first_fail(*args: object) -> None:
        if not next(tries):
            raise Unavailable("gone")
        act(*args)

    return first_fail


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The act is tried until it succeeds, and the log tells of the waiting once."""
    answers = iter([Unavailable("gone"), Unavailable("gone"), None])

    def act() -> None:
        error = next(answers)
        if error is not None:
            raise error

    assert outage.outlast(act, lambda: False)
    assert [record.getMessage() for record in caplog.records] == ["starting waits for the database: gone"]


def test_other_errors_are_not_waited_for() -> None:
    """What waiting does not cure is raised."""
    with pytest.raises(ZeroDivisionError):
        outage.outlast(lambda: 1 / 0, lambda: False)


@pytest.mark.parametrize("kind", ["inference", "errands"])
def test_a_worker_waits_for_its_database(service: Service, kind: str) -> None:
    """It starts as soon as the database answers, under the same process id."""
    with program(service, kind, away=3) as process:
        assert read(process, 4) == ["1", "2", "3", "4"]
        wait_until(lambda: kinds(service) == [kind])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert kinds(service) == []


@pytest.mark.parametrize("kind", ["inference", "errands"])
def test_a_worker_that_waits_can_be_stopped(service: Service, kind: str) -> None:
    """SIGTERM ends the waiting cleanly."""
    with program(service, kind, away=10**9) as process:
        read(process, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_each_write_of_the_start_waits(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering and publishing are tried again, too: the database may go away at any moment."""
    service.inference = inference = service.make()
    with monkeypatch.context() as patch:
        patch.setattr(inference, "_publish", flaky(inference._publish))
        patch.setattr(inference.identity, "register", flaky(inference.identity.register))
        assert inference.start()
    service.wait(service.submit(new_job(completion(max_tokens=2))))
    assert service.deaths == []


def test_who_never_came_in_leaves_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop before the first answer of the database is a clean one."""
    inference = service.make()

    def refuse(_self: Database) -> None:
        raise Unavailable("gone")

    tries = iter([False, False, True])
    monkeypatch.setattr(Database, "write", refuse)
    assert not inference.start(lambda: next(tries))
    assert inference.stop(0)

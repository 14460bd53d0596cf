"""`penstock up` as a person runs it: real processes, real signals, the fake LLM."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.complaint import Complaint
from ops.figures import totals
from ops.service import Service

FAKE = {"engine.backend": "fake", "worker.grace_seconds": 2}
PATIENCE = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Fail unless ``holds`` comes true in time."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command of every process that runs a command of ours; a bare Linux has no ``ps``."""
    found = _from_proc() if Path("/proc/self/stat").exists() else _from_ps()
    return {pid: (parent, command) for pid, parent, command in found if "ops.cli" in command}


def _from_proc() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ").strip()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        yield int(folder.name), int(parent), command


def _from_ps() -> Iterator[tuple[int, int, str]]:
    ps = ["ps", "-A", "-o", "pid=,ppid=,command="]
    for line in subprocess.run(ps, capture_output=True, text=True, check=True).stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        yield int(pid), int(parent), command


def children(service: Service) -> dict[str, int]:
    """Process ids of a service's children by the end of their command, such as ``worker errands``."""
    mine = {pid: command for pid, (parent, command) in processes().items() if parent == service.pid}
    return {command.partition("ops.cli ")[2]: pid for pid, command in mine.items()}


def some_live(pids: dict[str, int]) -> bool:
    """Whether any of them still runs."""
    return not processes().keys().isdisjoint(pids.values())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A started service, stopped at the end whatever happened."""
    service = Service(tmp_path / "data", FAKE)
    service.start()
    yield service
    service.stop()


def ask(service: Service, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request as `curl` would send it, with the key from the data directory."""
    key = (service.folder / "api-key").read_text().strip()
    request = urllib.request.Request(
        service.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.slow
def test_from_start_to_clean_stop(service: Service) -> None:
    """A service tells how to reach it, does a job, shows all metrics, holds its folder and leaves with 0."""
    check_announcement(service)
    check_job(service)
    check_metrics(service)
    check_second_one(service)
    pids = children(service)
    assert sorted(pids) == ["api", "worker errands", "worker inference"]
    assert service.stop() == 0
    assert not some_live(pids)
    assert not (service.folder / "address").exists()


def check_announcement(service: Service) -> None:
    """The answer of --json, the address file and the curl line agree; nothing is open to others."""
    told = json.loads((service.folder / "up.json").read_text())
    assert told["address"] == service.url == (service.folder / "address").read_text().strip()
    done = subprocess.run(["sh", "-c", told["curl"]], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["object"] == "job"
    files = [path for path in service.folder.rglob("*") if path.is_file() and path.stem != "up"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (service.folder, *files)}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def check_job(service: Service) -> None:
    """A job is stored, done and answered over HTTP."""
    job = ask(service, "/v1/jobs", {"prompt": "Hello", "max_tokens": 8})
    job = ask(service, f"/v1/jobs/{job['id']}?wait=30")
    assert job["state"] == "succeeded"
    assert job["usage"]["completion_tokens"] == 8


def check_metrics(service: Service) -> None:
    """One scrape of the API has the worker's figures too."""
    with service.client() as client:
        wait_until(lambda: totals(client.metrics()).decoded_tokens >= 8)
        assert "penstock_http_requests_total" in client.metrics()


def check_second_one(service: Service) -> None:
    """A second `up` on the same folder stops with a plain reason and hurts nothing."""
    second = Service(service.folder, FAKE)
    second.log = service.folder / "second.log"
    with pytest.raises(Complaint, match=f"Another `penstock up` \\(process {service.pid}\\)"):
        second.start()
    check_job(service)


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_a_killed_supervisor_leaves_no_orphans(service: Service) -> None:
    """After kill -9 of the worker another one does its jobs; after kill -9 of `up` every child stops."""
    os.kill(children(service)["worker inference"], signal.SIGKILL)
    check_job(service)
    assert "inference died (SIGKILL)" in service.log.read_text()
    pids = children(service)
    assert len(pids) == 3
    os.kill(service.pid, signal.SIGKILL)
    assert service.stop() == -signal.SIGKILL
    wait_until(lambda: not some_live(pids))


@pytest.mark.slow
def test_llms_that_share_a_worker(tmp_path: Path) -> None:
    """One process serves both, one at a time, and both are ready all the while."""
    sharing = {"llms.large.path": "fake:", "serve": ("pico", "large"), "worker.share": True}
    service = Service(tmp_path / "data", {**FAKE, **sharing})
    try:
        service.start()
        assert sorted(children(service)) == ["api", "worker errands", "worker inference"]
        for llm in ("large", "pico"):
            job = ask(service, "/v1/jobs", {"prompt": "Hello", "max_tokens": 8, "llm": llm})
            assert ask(service, f"/v1/jobs/{job['id']}?wait=30")["state"] == "succeeded"
            assert shown(service) == {"pico": (True, llm == "pico"), "large": (True, llm == "large")}
        command = ask(service, "/v1/llms/pico/unload", {})
        assert ask(service, f"/v1/commands/{command['id']}?wait=30")["result"] == {"loaded": False}
        assert shown(service) == {"pico": (True, False), "large": (True, False)}
        assert service.stop() == 0
    finally:
        service.stop()


def shown(service: Service) -> dict[str, tuple[bool, bool]]:
    """Of each LLM whether it is ready, and whether it is loaded."""
    return {llm["alias"]: (llm["ready"], llm["loaded"]) for llm in ask(service, "/v1/llms")["data"]}


@pytest.mark.slow
def test_wrong_settings_end_it_at_once(tmp_path: Path) -> None:
    """A setting that does not exist is told before anything is started."""
    with pytest.raises(Complaint, match="PENSTOCK_SERVER__PORT"):
        Service(tmp_path / "data", {**FAKE, "server.prot": 1}).start()
    assert not (tmp_path / "data" / "logs").exists()

"""The service, if one runs on this data directory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2

from config.settings import Settings
from models import workers as rows
from models.database import Unavailable
from ops.doctor.finding import Finding, fail, ok, warn
from ops.storage import connect, is_there


def workers(settings: Settings) -> Iterator[Finding]:
    """Whether each worker's counter moves; its row alone proves nothing."""
    before = _beats(settings)
    if not before:
        if (settings.data_dir / "address").exists():
            yield fail("workers", "the service runs, but no worker does", "see logs/inference.log")
        else:
            yield ok("workers", "none runs; the service is stopped")
        return
    time.sleep(settings.worker.heartbeat_ms / 1000 * 2.5)
    after = _beats(settings)
    for worker_id, (name, beats) in before.items():
        if worker_id not in after:
            yield ok(name, "has just stopped")
        elif after[worker_id][1] > beats:
            yield ok(name, f"its heart beats ({after[worker_id][1]})")
        else:
            cure = "the sweeper gives its jobs to others; look at its log"
            yield warn(name, "its heart does not beat", cure)


def _beats(settings: Settings) -> dict[str, tuple[str, int]]:
    """Name and counter of each worker that has not ended, by id; empty where no database answers."""
    if not is_there(settings):
        return {}
    found = connect(settings)
    try:
        with found.read() as session:
            return {
                row.id: (f"worker {row.kind} (process {row.pid} on {row.host})", row.beats)
                for row in rows.alive(session)
            }
    except Unavailable:
        return {}
    finally:
        found.close()


def door(settings: Settings) -> Iterator[Finding]:
    """Whether the API of this data directory answers and says that it is ready."""
    file = settings.data_dir / "address"
    if not file.exists():
        return
    url = file.read_text(encoding="utf-8").strip()
    try:
        answer = httpx2.get(f"{url}/health/ready", timeout=3, trust_env=False)
    except httpx2.TransportError as error:
        cure = f"if `penstock up` does not run, remove {file}; else see logs/api.log"
        yield fail("api", f"{url} does not answer ({error})", cure)
        return
    if answer.status_code == 200:
        yield _ready(url, answer.json())
    else:
        cure = "see logs/api.log and logs/inference.log"
        yield fail("api", f"{url} is not ready: {answer.text[:200]}", cure)


def _ready(url: str, health: dict[str, Any]) -> Finding:
    """A service that runs jobs may still lack a part without which they are slower."""
    missing = [f"{name}: {check['detail']}" for name, check in health["checks"].items() if not check["ok"]]
    if missing:
        return warn(
            "api", f"{url} is degraded: {'; '.join(missing)}", "start that part, or put its settings right"
        )
    return ok("api", f"{url} is ready")

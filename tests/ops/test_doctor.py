"""The doctor sees what is broken, and says what to do about it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

import migrations
from config.settings import Broker, Engine, Llm, Settings
from models import workers
from models.base import utcnow
from models.database import Database
from ops.doctor import device, examine, llms, machine, service, storage
from ops.doctor.finding import Finding
from ops.supervisor.preparation import first_key
from tests.ops.conftest import Penstock


def verdicts(findings: Iterator[Finding]) -> dict[str, str]:
    """The verdict of each subject."""
    return {finding.subject: finding.verdict for finding in findings}


@pytest.fixture
def data(settings: Settings) -> Iterator[Database]:
    """The data directory of a service that has been set up and stopped."""
    settings.data_dir.chmod(0o700)
    database = Database.connect(settings.database_url)
    migrations.upgrade(database)
    first_key(database, settings.data_dir / "api-key")
    yield database
    database.close()


def test_a_healthy_service(settings: Settings, data: Database) -> None:
    """With a folder, a database and a key in order nothing is warned of."""
    checks = (machine.data_directory, storage.database, storage.broker, storage.key_file, service.workers)
    found = [finding for check in checks for finding in check(settings)]
    assert {finding.verdict for finding in found if finding.subject != "disk"} == {"ok"}, found


def test_nothing_is_there_yet(settings: Settings) -> None:
    """Before the first start nothing has failed, and no database is made by looking."""
    assert verdicts(storage.database(settings)) == {"database": "warn"}
    assert verdicts(storage.key_file(settings)) == {"key file": "warn"}
    assert verdicts(service.workers(settings)) == {"workers": "ok"}
    assert not (settings.data_dir / "penstock.db").exists()


def test_a_folder_open_to_others(settings: Settings) -> None:
    """Rights for others are warned of, with the command that takes them away."""
    settings.data_dir.chmod(0o755)
    (found, _) = machine.data_directory(settings)
    assert (found.verdict, found.cure) == ("warn", f"chmod 700 {settings.data_dir}")


@pytest.mark.parametrize(("free", "verdict"), [(100 * 2**20, "fail"), (2**30, "warn"), (50 * 2**30, "ok")])
def test_little_room(settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    """A disk that is nearly full is warned of; one that is full fails."""
    usage = shutil.disk_usage(settings.data_dir)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert verdicts(machine.data_directory(settings))["disk"] == verdict


def test_a_migration_is_pending(settings: Settings, data: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older schema is warned of: the next start brings it up."""
    monkeypatch.setattr(migrations, "head", lambda: "9999")
    assert verdicts(storage.database(settings))["migrations"] == "warn"


def test_a_newer_schema(settings: Settings, data: Database) -> None:
    """A schema of a newer version fails."""
    with closing(sqlite3.connect(settings.data_dir / "penstock.db")) as raw:
        raw.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
        raw.commit()
    assert verdicts(storage.database(settings))["migrations"] == "fail"


def test_a_damaged_database(settings: Settings, data: Database) -> None:
    """A file with overwritten pages fails, and the copies are named."""
    data.close()
    file = settings.data_dir / "penstock.db"
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    file.write_bytes(content)
    assert "fail" in verdicts(storage.database(settings)).values()


def test_counters_that_drift(settings: Settings, data: Database) -> None:
    """A count without a row behind it fails."""
    with closing(sqlite3.connect(settings.data_dir / "penstock.db")) as raw:
        raw.execute(
            "INSERT INTO counters (tenant_id, llm, priority, name, amount)"
            " VALUES ('default', 'pico', 1, 'queued', 3)"
        )
        raw.commit()
    found = {finding.subject: finding for finding in storage.database(settings)}
    assert found["counters"].verdict == "fail"
    assert "pico/queued +3" in found["counters"].says


def test_a_database_out_of_reach(settings: Settings) -> None:
    """A server that does not answer fails with its own words."""
    values = settings.model_dump() | {"database": {"url": "postgresql://127.0.0.1:9/none"}}
    (found,) = storage.database(Settings.model_validate(values))
    assert found.verdict == "fail"


def test_redis_out_of_reach(settings: Settings) -> None:
    """A broker that does not answer fails."""
    broker = Broker(kind="redis", redis_url="redis://127.0.0.1:9/0")  # type: ignore[arg-type]  # pydantic converts
    assert verdicts(storage.broker(settings.model_copy(update={"broker": broker}))) == {"broker": "fail"}


def test_redis_that_answers(settings: Settings, redis_url: str) -> None:
    """A broker that answers is told with its version."""
    broker = Broker(kind="redis", redis_url=redis_url)  # type: ignore[arg-type]  # pydantic converts
    assert verdicts(storage.broker(settings.model_copy(update={"broker": broker}))) == {"broker": "ok"}


def test_key_files(settings: Settings, data: Database) -> None:
    """A key that others can read fails, and so does one that opens nothing."""
    file = settings.data_dir / "api-key"
    file.chmod(0o644)
    assert verdicts(storage.key_file(settings)) == {"key file": "fail"}
    file.chmod(0o600)
    file.write_text("pk_no_no")
    assert verdicts(storage.key_file(settings)) == {"key file": "ok", "key": "fail"}


def test_a_heart_that_does_not_beat(settings: Settings, data: Database) -> None:
    """A worker's row alone proves nothing: its counter must move."""
    now = utcnow()
    row = workers.Worker(
        id="worker_1", kind="inference", host="here", pid=1, beats=5, started_at=now, seen_at=now, figures={}
    )
    with data.write() as session:
        session.add(row)
    assert verdicts(service.workers(settings)) == {"worker inference (process 1 on here)": "warn"}


def test_an_api_that_is_gone(settings: Settings, data: Database) -> None:
    """An address without anybody behind it fails, and so does a service without a worker."""
    (settings.data_dir / "address").write_text("http://127.0.0.1:9")
    assert verdicts(service.door(settings)) == {"api": "fail"}
    assert verdicts(service.workers(settings)) == {"workers": "fail"}


@pytest.mark.parametrize(("broker_answers", "verdict"), [(True, "ok"), (False, "warn")])
def test_an_api_that_lacks_a_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, broker_answers: bool, verdict: str
) -> None:
    """A degraded service answers 200 too, and is told with the part that it lacks."""
    checks = {"database": {"ok": True, "detail": "fine"}, "broker": {"ok": broker_answers, "detail": "gone"}}
    answer = httpx2.Response(200, json={"checks": checks})
    monkeypatch.setattr(httpx2, "get", lambda *_, **__: answer)
    (settings.data_dir / "address").write_text("http://127.0.0.1:9")
    (found,) = service.door(settings)
    assert found.verdict == verdict
    assert ("degraded: broker: gone" in found.says) is not broker_answers


def mlx(settings: Settings, path: str) -> Settings:
    """Settings with one LLM for the real backend."""
    return settings.model_copy(update={"engine": Engine(backend="mlx"), "llms": {"pico": Llm(path=path)}})


def test_weights(settings: Settings, tmp_path: Path) -> None:
    """The built-in LLM is whole; an empty folder fails; a hub id that is not here yet is warned of."""
    assert verdicts(llms.weights(mlx(settings, "builtin:pico"))) == {"weights of pico": "ok"}
    (found,) = llms.weights(mlx(settings, str(tmp_path)))
    assert found.verdict == "fail"
    assert "config.json" in found.says
    assert "safetensors" in found.says
    assert verdicts(llms.weights(mlx(settings, "nobody/nothing"))) == {"weights of pico": "warn"}


def test_adapters(settings: Settings, tmp_path: Path) -> None:
    """An adapter that is not whole fails, whatever the LLM below it."""
    tuned = {"pico": Llm(path="builtin:pico", adapter=str(tmp_path))}
    (found,) = llms.weights(mlx(settings, "").model_copy(update={"llms": tuned}))
    assert (found.verdict, found.cure) == ("fail", "put llms.pico.adapter right")
    assert "no adapters.safetensors" in found.says


def test_tokenizers(settings: Settings, tmp_path: Path) -> None:
    """The built-in tokenizer gives every text back; a broken file fails."""
    assert verdicts(llms.tokenizers(mlx(settings, "builtin:pico"))) == {"tokenizer of pico": "ok"}
    (tmp_path / "tokenizer.json").write_text("{}")
    assert verdicts(llms.tokenizers(mlx(settings, str(tmp_path)))) == {"tokenizer of pico": "fail"}


def test_mlx_that_cannot_be_used(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last words of the probe are told when MLX does not even load."""
    monkeypatch.setattr(device, "PROBE", "raise ImportError('no such library')")
    (found,) = device.accelerator(mlx(settings, "builtin:pico"))
    assert found.verdict == "fail"
    assert "no such library" in found.says


def test_a_slow_blas(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU without OpenBLAS the package to install is named."""
    facts = {"device": "cpu", "right": True, "metal": False, "cuda": False}
    monkeypatch.setattr(device, "_probe", lambda: facts)
    monkeypatch.setattr("workers.backends.blas.find", lambda: None)
    found = {finding.subject: finding for finding in device.accelerator(mlx(settings, "builtin:pico"))}
    assert found["mlx"].verdict == "ok"
    assert "libopenblas0" in found["blas"].cure


def test_a_check_that_breaks_is_a_finding(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One check's own trouble fails that check and hides no other."""

    def broken(settings: Settings) -> Iterator[Finding]:
        yield from storage.broker(settings.model_copy(update={"broker": None}))

    monkeypatch.setattr("ops.doctor.WITH_SETTINGS", (broken, storage.broker))
    found = verdicts(examine(settings.data_dir))
    assert (found["broken"], found["broker"]) == ("fail", "ok")


def test_the_command(penstock: Penstock, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` fails when something fails, also as JSON, and names wrong settings."""
    monkeypatch.setattr("ops.doctor.WITH_SETTINGS", (storage.broker,))
    assert penstock("doctor", "--data-dir", str(settings.data_dir)).returncode == 0
    monkeypatch.setenv("PENSTOCK_SERVER__PROT", "1")
    done = penstock("doctor", "--json", "--data-dir", str(settings.data_dir))
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert "PENSTOCK_SERVER__PORT" in found["findings"][-1]["says"]

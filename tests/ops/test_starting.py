"""What a start is given, and what it refuses before any process begins."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from config.settings import Settings
from config.sources import load
from ops import llm_place
from ops.bench import Effort, Figure
from ops.cli.processes import JsonLines
from ops.complaint import Complaint
from ops.service import Service
from tests.ops.conftest import Penstock


def test_a_service_of_ones_own_hears_of_no_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment nor a .env decides anything of it, and what it is given does."""
    monkeypatch.setenv("PENSTOCK_QUEUE__MAX_DEPTH", "1")
    (tmp_path / "config").mkdir()
    (tmp_path / ".env").write_text(
        "PENSTOCK_ENGINE__MAX_ROWS=2\nPENSTOCK_SERVER__ALLOWED_HOSTS=example.org\nPENSTOCK_ENVIRONMENT=big\n"
    )
    given = Service(tmp_path / "data", {"engine.window_ms": 7})._environment()
    found = load({}, given, root=tmp_path)
    built_in = load({"engine.window_ms": 7}, {}, root=tmp_path / "config")
    apart = {"data_dir", "database", "server"}
    assert found.model_dump(exclude=apart) == built_in.model_dump(exclude=apart)
    assert found.server.allowed_hosts == built_in.server.allowed_hosts
    assert (found.data_dir, found.server.port) == (tmp_path / "data", 0)


@pytest.mark.parametrize("command", [("up", "--port", "0"), ("worker", "inference")])
@pytest.mark.parametrize("llm", ["/no/such/llm", "./typo", "builtin:pica"])
def test_an_llm_that_is_not_there(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], llm: str
) -> None:
    """One sentence, and the exit status that means that another start cannot help."""
    monkeypatch.setattr("ops.cli.processes._with_blas", lambda _: None)  # it would start this process anew
    done = penstock(*command, "--llm", llm, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: The LLM cannot be loaded: there is no ")
    assert "put --llm, or the setting llms." in done.stderr
    assert not (tmp_path / "data" / "penstock.db").exists()


@pytest.mark.parametrize(("exists", "status"), [(False, 2), (True, 0), (None, 0)])
def test_an_id_that_the_hub_does_not_know(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool | None, status: int
) -> None:
    """It is refused as well; where the hub cannot be asked, the loader may try."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    answer = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.invalid"))

    def model_info(_: HfApi, hub_id: str, **__: Any) -> None:
        assert hub_id == "penstock-nobody/no-such-llm"
        if exists is None:
            raise httpx2.ConnectError("no network")
        if not exists:
            raise RepositoryNotFoundError("404", response=answer)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    monkeypatch.setattr("workers.inference.main", lambda *_: 0)
    monkeypatch.setattr("ops.cli.processes._with_blas", lambda _: None)
    folder = str(tmp_path / "data")
    done = penstock("worker", "inference", "--llm", "penstock-nobody/no-such-llm", "--data-dir", folder)
    assert done.returncode == status
    assert ("the hub knows no such id" in done.stderr) is (status == 2)


def test_a_folder_that_is_no_llm(tmp_path: Path) -> None:
    """What is missing in it is named."""
    assert llm_place.missing_files(tmp_path) == ["config.json", "*.safetensors"]


def test_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    """It is refused as an LLM is, and the setting that names it is told; without one nothing is missing."""
    adapter = tmp_path / "adapter"
    settings = load({"llms": {"pico": {"path": "builtin:pico", "adapter": str(adapter)}}}, {}, root=tmp_path)
    with pytest.raises(Complaint, match=r"no adapter_config.json and no adapters.safetensors.*pico.adapter"):
        llm_place.check(settings, "pico")
    adapter.mkdir()
    for name in ("adapter_config.json", "adapters.safetensors"):
        (adapter / name).touch()
    llm_place.check(settings, "pico")
    llm_place.check(load({}, {}, root=tmp_path), "pico")


def test_a_worker_for_several_llms(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each --alias adds one; without any the settings hold. All of them must be there."""
    served: list[tuple[str, ...]] = []

    def main(settings: Settings, *_: object) -> int:
        served.append(settings.served_llms)
        return 0

    monkeypatch.setattr("workers.inference.main", main)
    monkeypatch.setattr("ops.cli.processes._with_blas", lambda _: None)
    monkeypatch.setenv("PENSTOCK_LLMS__LARGE__PATH", "builtin:pico")
    monkeypatch.setenv("PENSTOCK_LLMS__WRONG__PATH", "/no/such/llm")
    command = ("worker", "inference", "--data-dir", str(tmp_path))
    for aliases in ((), ("large",), ("large", "pico")):
        done = penstock(*command, *(part for alias in aliases for part in ("--alias", alias)))
        assert done.returncode == 0, done.stderr
    assert served == [("pico",), ("large",), ("large", "pico")]
    assert penstock(*command, "--alias", "pico", "--alias", "wrong").returncode == 2
    assert "worker.llms is nobody" in penstock(*command, "--alias", "nobody").stderr


@pytest.mark.parametrize(
    ("options", "name"),
    [((), "bench.json"), (("--quick",), "bench-quick.json"), (("--out", "x.json"), "x.json")],
)
def test_measurements_are_kept(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], name: str
) -> None:
    """`bench` writes all measurements as JSON without being asked, and says where."""

    def measure(*_: object) -> Iterator[Figure]:
        yield Figure("x", 0.5, "", "at least", 0.4, {})

    monkeypatch.setattr("ops.bench.run", measure)
    monkeypatch.setattr(
        "ops.bench.machine", lambda: dict.fromkeys(("system", "device", "cores", "note", "blas"))
    )
    monkeypatch.setattr("ops.cli.trials._stop_when_told", lambda: None)
    monkeypatch.chdir(tmp_path)
    done = penstock("bench", "pickup", *options)
    assert done.stderr.endswith(f"All measurements are in {name}\n")
    found = json.loads((tmp_path / name).read_text())
    assert (found["figures"][0]["value"], found["effort"]["rounds"]) == (
        0.5, (Effort.quick() if options == ("--quick",) else Effort()).rounds,
    )  # fmt: skip


def test_a_log_for_programs() -> None:
    """Each entry is one line of JSON, a traceback included."""
    try:
        raise LookupError("no bread")
    except LookupError:
        record = logging.LogRecord("baker", logging.ERROR, "", 1, "failed %d times", (2,), sys.exc_info())
    entry = JsonLines().format(record)
    assert "\n" not in entry
    told = json.loads(entry)
    assert (told["level"], told["logger"], told["message"]) == ("ERROR", "baker", "failed 2 times")
    assert told["traceback"].endswith("LookupError: no bread")
    assert told["time"].endswith("Z")

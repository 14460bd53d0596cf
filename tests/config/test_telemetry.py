"""Metrics: all declared in one place, all processes in one scrape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from config import telemetry

PROJECT = Path(__file__).parents[2]


class Depths(Collector):
    """What the API adds at each scrape."""

    def collect(self) -> Iterable[Metric]:
        """One gauge with one value."""
        depth = GaugeMetricFamily("penstock_queue_depth", "Waiting jobs.", labels=["llm"])
        depth.add_metric(["pico"], 7)
        yield depth


def samples(text: bytes) -> dict[str, float]:
    """The values of a scrape, by name and labels."""
    families = text_string_to_metric_families(text.decode())
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_one_process_answers_for_itself() -> None:
    """Without a shared folder a scrape shows this process's figures and what is collected besides."""
    before = samples(telemetry.scrape()).get("penstock_sweeps_total test", 0)
    telemetry.sweeps.labels("test").inc()
    found = samples(telemetry.scrape([Depths()]))
    assert found["penstock_sweeps_total test"] == before + 1
    assert found["penstock_queue_depth pico"] == 7


def run(code: str, folder: Path) -> str:
    """What a process prints that shares its figures in ``folder``."""
    environ = {telemetry.DIRECTORY_VARIABLE: str(folder)}
    command = [sys.executable, "-c", f"from config import telemetry as t\n{code}"]
    return subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True
    ).stdout


def test_one_scrape_covers_all_processes(tmp_path: Path) -> None:
    """Counters of several processes add up, also those of processes that have ended."""
    for steps in (2, 3):
        run(
            f"t.engine_steps.labels('pico').inc({steps}); t.pickup_seconds.labels('pico').observe(0.05)",
            tmp_path,
        )
    found = samples(run("print(t.scrape().decode())", tmp_path).encode())
    assert found["penstock_engine_steps_total pico"] == 5
    assert found["penstock_pickup_seconds_count pico"] == 2


def test_gauges_of_ended_processes_can_be_dropped(tmp_path: Path) -> None:
    """The batch of a worker that has ended no longer counts once it is forgotten; its tokens still do."""
    code = "t.engine_batch_rows.labels('pico').set(4); t.engine_steps.labels('pico').inc()"
    pid = run(f"import os; {code}; print(os.getpid())", tmp_path).strip()
    show = "print(t.scrape().decode())"
    assert samples(run(show, tmp_path).encode())["penstock_engine_batch_rows pico"] == 4
    found = samples(run(f"t.forget_process({pid}); {show}", tmp_path).encode())
    assert "penstock_engine_batch_rows pico" not in found
    assert found["penstock_engine_steps_total pico"] == 1


def test_the_folder_is_emptied_at_the_start(tmp_path: Path) -> None:
    """Figures of an earlier service do not show in the next one; other files are left alone."""
    folder = tmp_path / "data" / "metrics"
    telemetry.prepare_directory(folder)
    run("t.engine_steps.labels('pico').inc()", folder)
    (folder / "readme.txt").write_text("kept")
    telemetry.prepare_directory(folder)
    assert [file.name for file in folder.iterdir()] == ["readme.txt"]


def test_forgetting_a_process_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a shared folder there is nothing to drop."""
    monkeypatch.delenv(telemetry.DIRECTORY_VARIABLE, raising=False)
    telemetry.forget_process(1)


def test_every_metric_has_our_prefix_and_says_what_it_is() -> None:
    """All metrics of the service start alike and carry a sentence of help."""
    declared = [thing for thing in vars(telemetry).values() if isinstance(thing, Counter | Gauge | Histogram)]
    families = [family for metric in declared for family in metric.describe()]
    assert len(families) >= 16
    assert [family.name for family in families if not family.name.startswith("penstock_")] == []
    assert [family.name for family in families if not family.documentation.endswith(".")] == []

"""What all tests share: an environment free of the machine's settings, the order of running, coverage."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis.configuration
import pytest
from coverage import Coverage
from coverage.exceptions import NoDataError
from hypothesis import settings as hypothesis_settings

from config.settings import Broker, Engine, Live, Queue, Server, Settings, Worker
from tests.chaos.faults import can_fill_disks

pytest_plugins = ["tests.servers", "tests.databases"]

PROJECT = Path(__file__).parent.parent
LAYERS = ("api", "workers", "models", "migrations", "config", "ops")
ORDER = ("config", "models", "migrations", "workers", "ops", "api", "conformance", "flows", "pico", "chaos")
SERVERS = {"postgres_server", "redis_server"}

hypothesis.configuration.set_hypothesis_home_dir(PROJECT / ".cache" / "hypothesis")
hypothesis_settings.register_profile("penstock", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("penstock")


def pytest_configure() -> None:
    """Forget settings that the machine's environment holds."""
    for name in [*os.environ]:
        if name.startswith("PENSTOCK_") or name == "PROMETHEUS_MULTIPROC_DIR":
            del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run quick tests first, then those that need a server, slow ones last."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, int]:
    folder = item.path.relative_to(PROJECT / "tests").parts[0]
    place = ORDER.index(folder) if folder in ORDER else -1  # files at the top are quick
    needs_server = not SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
    cost = 2 if item.get_closest_marker("slow") else 1 if needs_server else 0
    return cost, place


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what this machine lacks, and how much of each layer the tests ran, if that was measured."""
    if not can_fill_disks():
        terminalreporter.write_line(
            "Not tried here: a full disk, for only root on Linux can make a small one."
        )
    if not config.getoption("cov_source", default=None) or hasattr(config, "workerinput"):
        return
    measured = Coverage(config_file=str(PROJECT / "pyproject.toml"))
    measured.load()
    terminalreporter.section("coverage by layer")
    for layer in LAYERS:
        try:
            share = measured.report(include=[f"{layer}/*"], file=io.StringIO())
        except NoDataError:
            continue
        terminalreporter.write_line(f"{layer:<12}{share:5.1f} %")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data directory of their own, the fake backend, and intervals too short to wait for."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return Settings(
        data_dir=data_dir,
        server=Server(port=0),
        broker=Broker(poll_ms=10, lease_seconds=1),
        live=Live(flush_ms=20, poll_ms=10),
        queue=Queue(backoff_seconds=0.05, backoff_max_seconds=0.2, timeout_seconds=30),
        worker=Worker(
            heartbeat_ms=50, lease_seconds=1, control_ms=20, sweep_ms=50, rehint_seconds=0.5, grace_seconds=2
        ),
        engine=Engine(backend="fake", window_ms=2),
    )


@pytest.fixture(autouse=True)
def unspoilt_process() -> Iterator[None]:
    """Undo what a command run within the test process leaves: variables, and loggers that are silenced."""
    before = dict(os.environ)
    logging.disable(logging.NOTSET)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
            logger.propagate = True
    yield
    for name in os.environ.keys() - before.keys():
        if name.startswith("PROMETHEUS_"):
            del os.environ[name]

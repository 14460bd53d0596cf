"""The benchmark of deep queues, each part at toy size: what it stores is sound, and every figure comes.

Its figures mean nothing here and are never looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from config.settings import Database as DatabaseSettings
from config.settings import Settings
from models import books, counters
from models.database import Database
from models.documents import Document
from models.job_rows import Job, JobTag
from models.states import State
from ops.bench import cycles, depth, looking, servers, soak, stock, sweeping, yardsticks
from ops.bench.depth import Store
from ops.bench.figure import Effort, Figure
from ops.bench.hands import Hands
from ops.bench.looking import Look
from ops.bench.statistics import take_turns
from ops.bench.stock import HOARDER, OTHER, TENANT, Stock
from ops.complaint import Complaint
from tests.ops.conftest import Penstock

TOY = Effort(
    rounds=1, bulk=20, depths=(60, 120), cycles=10, ended=20, looks=1, visits=5, noops=20, soak_minutes=0.1
)
WAITING, ENDED = 200, 60

Filled = Callable[[bool], Stock]


@pytest.fixture
def filled(database_url: str, tmp_path: Path) -> Iterator[Filled]:
    """Makes the one filled database of a test; its books are checked in the end."""
    settings = Settings(data_dir=tmp_path, database=DatabaseSettings(url=SecretStr(database_url)))
    with closing(Database.connect(database_url)) as database:
        yield lambda hoarded: stock.make(database, settings, WAITING, ENDED, hoarded=hoarded)
        with database.read() as session:
            assert books.check_integrity(session) == []


def states(made: Stock) -> Counter[str]:
    """Jobs by state, as the counters know them."""
    found: Counter[str] = Counter()
    with made.database.read() as session:
        for (*_, state), number in counters.states(session).items():
            found[state] += number
    return found


def waiting_of(made: Stock, agent: str) -> int:
    """How many jobs of an agent wait."""
    with made.database.read() as session:
        mine = select(func.count()).where(Job.agent == agent, Job.finished_at.is_(None))
        return session.scalar(mine) or 0


def test_a_stock_is_mixed(filled: Filled) -> None:
    """Both tenants, all classes, agents, tags, jobs for later and ended ones are in it."""
    made = filled(False)
    found = states(made)
    waits = found[State.QUEUED] + found[State.SCHEDULED]
    assert found[State.SCHEDULED] > 0
    assert WAITING <= waits <= WAITING + ENDED
    assert waits + found[State.SUCCEEDED] + found[State.FAILED] == WAITING + ENDED
    assert found[State.FAILED] > 0
    with made.database.read() as session:
        assert set(session.scalars(select(Job.tenant_id))) == {TENANT, OTHER}
        assert set(session.scalars(select(Job.priority))) == {0, 1, 2}
        assert (session.scalar(select(func.count()).where(Job.agent.is_not(None))) or 0) > 0
        assert {"nightly", "rare"} <= set(session.scalars(select(JobTag.tag)))
        assert session.scalar(select(func.count()).select_from(Document)) == WAITING + ENDED


def test_an_agent_that_holds_half(filled: Filled) -> None:
    """Half of a hoarded stock is one agent's, and stays so however much is taken and replaced."""
    made = filled(True)
    assert waiting_of(made, HOARDER) == WAITING // 2
    before = states(made)
    hands = Hands(made.database, made.settings)
    for _ in range(3):
        cycles.rate(made, hands, 20, 1)
    after = states(made)
    assert waiting_of(made, HOARDER) == WAITING // 2
    assert after[State.SUCCEEDED] == before[State.SUCCEEDED] + 60
    assert after[State.QUEUED] + after[State.SCHEDULED] == before[State.QUEUED] + before[State.SCHEDULED]


def test_what_was_taken_is_replaced_by_what_can_be_taken(filled: Filled) -> None:
    """However long a rate is measured, jobs for later do not come to be all that waits."""
    made = filled(False)
    before = states(made)
    hands = Hands(made.database, made.settings)
    for _ in range(6):
        cycles.rate(made, hands, 20, 20)
    assert states(made)[State.SCHEDULED] == before[State.SCHEDULED] > 0


def test_a_rate_of_too_few_jobs(filled: Filled) -> None:
    """When the queue runs dry there is no rate, and that is told."""
    made = filled(False)
    with pytest.raises(Complaint, match="could be claimed"):
        cycles.rate(made, Hands(made.database, made.settings), 10 * WAITING, 64)


def test_the_time_of_transactions(filled: Filled) -> None:
    """What the sweeper's database counts grows with each look and each change, and with nothing else."""
    made = filled(False)
    timed = sweeping.Timed(made.database.engine)
    assert timed.seconds == 0
    with timed.read() as session:
        session.scalar(select(func.count()).select_from(Job))
    looked = timed.seconds
    with timed.write() as session:
        session.scalar(select(func.count()).select_from(Job))
    assert 0 < looked < timed.seconds


NAMES = [
    *(
        f"claim + finish, {at_once} at once{who}, {which}"
        for who in (", half of one agent", "")
        for at_once in (64, 1)
        for which in ("60 wait", "120 wait", "120 ÷ 60")
    ),
    "store, 1 at once, 120 wait",
    "store, 100 at once, 120 wait",
    "a sweeper pass, 120 wait",
    "a pass that tidies, 120 wait",
    "list by state, common, 120 wait, p95",
    "list of a small tenant, 120 wait, p95",
    "list by agent, 120 wait, p95",
    "list by tag, common, 120 wait, p95",
    "list by time, before, 120 wait, p95",
    "list by text, not there, 120 wait, p95",
    "counts of states, 120 wait, p95",
    "count by tag, common, 120 wait, p95",
    "count by text, common, 120 wait, p95",
    "submit while the worker drains, 120 wait, p99",
    "submit while it drains and a bulk of 20 is stored, 120 wait, p99",
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_figure_comes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Cycles, sweeps, looks through the API and submissions to a draining service all give their figures."""
    if kind == "postgresql":
        server = request.getfixturevalue("postgres_server")
        store = Store("X", lambda _folder: servers.new_database(server))
    else:
        store = Store("X", depth.sqlite_url)
    found = {figure.name: figure for figure in depth.of_store(store, TOY, tmp_path)}
    assert [name for name in NAMES if f"X: {name}" not in found] == []
    assert all(figure.value > 0 for figure in found.values())
    (drained,) = found["X: submit while the worker drains, 120 wait, p99"].details["rounds"]
    assert drained["submissions"] >= TOY.visits
    assert drained["drained_per_second"] > 0
    assert [*tmp_path.iterdir()] == []


def test_yardsticks_run_beside_ours(tmp_path: Path, redis_url: str) -> None:
    """Bare Dramatiq does its jobs and leaves nothing in Redis; one that is not installed is left out."""
    with depth.stocked(Store("SQLite", depth.sqlite_url), TOY, tmp_path, 60) as ours:
        found = list(yardsticks.compare({"SQLite": ours}, TOY, None, redis_url))
    assert [figure.name for figure in found] == [
        "no-op jobs, SQLite: claim + finish",
        "no-op jobs, bare Dramatiq + Redis",
    ]
    assert all(figure.value > 0 and figure.met and not figure.wanted for figure in found)


def test_a_yardstick_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are never done end the measurement with a word."""
    monkeypatch.setattr(yardsticks, "PATIENCE_SECONDS", 0.01)
    done = yardsticks.Countdown(2)
    done.one()
    with pytest.raises(Complaint, match="1 jobs were not done"):
        done.wait()


def pages_of(*cursors: str | None, status: int = 200) -> tuple[httpx2.Client, list[str | None]]:
    """A client whose answers name these cursors in turn, and what it was asked to go on from."""
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.params.get("cursor"))
        return httpx2.Response(status, json={"data": [], "next_cursor": cursors[len(asked) - 1]})

    return httpx2.Client(base_url="http://x", transport=httpx2.MockTransport(answer)), asked


def test_looks_go_from_page_to_page() -> None:
    """Each request goes on behind the one before; behind the last page it begins anew."""
    client, asked = pages_of("b", None, "b")
    assert len(list(looking._walk(client, Look("all"), 3))) == 3
    assert asked == [None, "b", None]


def test_a_look_that_is_refused() -> None:
    """An answer that is no success ends the benchmark: it would be quick for the wrong reason."""
    client, _ = pages_of(None, status=403)
    with pytest.raises(Complaint, match="all was refused"):
        list(looking._walk(client, Look("all"), 1))


def test_the_slope_of_memory() -> None:
    """It is in MB per hour by least squares, and what the first quarter of the time did is left out."""
    flat = [(hour / 100, 900.0 if hour < 25 else 100.0) for hour in range(101)]
    assert soak.slope(flat) == 0
    rising = [(hour / 100, 50 + 3 * hour / 100) for hour in range(101)]
    assert soak.slope(rising) == pytest.approx(3)


def test_a_short_soak_is_not_judged() -> None:
    """Only from half an hour on does the slope have a target."""
    rising = [(0.0, 1.0), (0.5, 1.0), (1.0, 101.0)]
    assert soak._figure("api", rising, 5, 1).wanted == ""
    long = soak._figure("api", rising, 60, 1)
    assert (long.wanted, long.met) == ("at most 5", False)


def test_memory_of_children() -> None:
    """Each child is known by what follows the console script's name; other processes are not counted."""
    sleeping = [sys.executable, "-c", "print(flush=True); input()", "ops.cli", "worker", "inference"]
    with subprocess.Popen(sleeping, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # before that it still goes by our own command line
        found = soak.resident(os.getpid())
        child.communicate(b"\n")
    assert found["worker inference"] > 1


@pytest.mark.slow
def test_a_soak(tmp_path: Path) -> None:
    """The memory of API, worker and errands is watched while jobs are done."""
    found = {figure.name: figure for figure in soak.measure(TOY, tmp_path)}
    assert sorted(found) == [
        f"memory of {name}, 0.1 min" for name in ("api", "worker errands", "worker inference")
    ]
    for figure in found.values():
        assert figure.details["jobs"] > 0
        assert len(figure.details["hours_and_mb"]) > 10


def test_a_server_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, postgres_server: str, redis_url: str
) -> None:
    """It is taken as it is, and a database that is made on it is empty and gone in the end."""
    monkeypatch.setenv("DATABASE_URL", postgres_server)
    monkeypatch.setenv("REDIS_URL", redis_url)
    with servers.postgresql() as server, servers.redis() as found:
        assert (server, found) == (postgres_server, redis_url)
        assert server is not None
        with servers.new_database(server) as url, psycopg.connect(url) as connection:
            (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            tables = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert name.startswith("penstock_bench_")
        assert tables == []
    with psycopg.connect(postgres_server) as admin:
        left = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall()
    assert left == []


def test_without_servers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is neither a server nor its wheel, that is said, and nothing else happens."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(servers, "find_spec", lambda _name: None)
    with servers.postgresql() as server, servers.redis() as found:
        assert (server, found) == (None, None)
    told = capsys.readouterr().err
    assert "No PostgreSQL" in told
    assert "No Redis" in told


def test_several_sides_take_turns() -> None:
    """In the first round in order, in the second in the opposite one, so that a drift hurts all alike."""
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return len(calls)

    found = take_turns(2, {name: partial(side, name) for name in "abc"})
    assert calls == ["a", "b", "c", "c", "b", "a"]
    assert found == {"a": (1, 6), "b": (2, 5), "c": (3, 4)}


def test_a_figure_for_comparison() -> None:
    """It has no target in words and is never missed."""
    figure = Figure("x", 0.0, "jobs/s")
    assert (figure.wanted, figure.met) == ("", True)


def test_the_length_of_the_soak(penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--soak`` sets the minutes, and the section's figures are told and kept."""
    seen: list[float] = []

    def measure(effort: Effort, _folder: Path) -> Iterator[Figure]:
        seen.append(effort.soak_minutes)
        yield Figure("memory of api, 7 min", -1.5, "MB/h")

    monkeypatch.setattr(soak, "measure", measure)
    out = tmp_path / "bench.json"
    done = penstock("bench", "soak", "--soak", "7", "--out", str(out))
    assert (done.returncode, seen) == (0, [7.0])
    assert "-1.5 MB/h" in done.stdout
    assert '"target": ""' in out.read_text()

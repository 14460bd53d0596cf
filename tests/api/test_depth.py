"""The queue's limits, in all and for each tenant, without a count for every job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.app import document
from api.depth import Depth
from api.problems import Problem
from config.settings import Queue, Settings
from models import counters
from models.database import Database
from models.tenants import Tenant
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Five jobs may wait, three of them of one tenant, and an attempt may take a minute."""
    queue = Queue(max_depth=5, max_tenant_depth=3, timeout_seconds=30, timeout_max_seconds=60)
    return settings.model_copy(update={"queue": queue})


def limit(answer: httpx2.Response) -> tuple[str, str]:
    """What an answer says of the limit."""
    return answer.headers["ratelimit-policy"], answer.headers["ratelimit"]


def test_full_queue_answers_429(client: TestClient) -> None:
    """Beyond the limit jobs are refused with a time to come back, and taken again when there is room."""
    made = [submit(client)["id"] for _ in range(3)]
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert answer.json()["type"] == "urn:penstock:problem:queue-full"
    assert answer.json()["detail"].startswith("3 of your jobs wait and 3 may (queue.max_tenant_depth or")
    assert limit(answer) == ('"queue";q=3', '"queue";r=0;t=10')
    assert client.post(f"/v1/jobs/{made[0]}/cancel").status_code == 200
    assert client.post("/v1/jobs", json={"prompt": "a"}).status_code == 202
    assert client.post(f"/v1/jobs/{made[0]}/retry").status_code == 429


def test_answers_that_jobs_are_stored_tell_the_room_that_is_left(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job, one again, a bulk: each says how many may wait and how many more are taken, without a time."""
    monkeypatch.setattr("api.depth.SECONDS", 0)  # so that the cancelled job is not among them any more
    job_id = submit(client)["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    headers = {"Idempotency-Key": "k"}
    answers = [
        client.post("/v1/jobs", json={"prompt": "a"}, headers=headers),
        client.post(f"/v1/jobs/{job_id}/retry"),
        client.post("/v1/bulk", json={"jobs": [{"prompt": "a"}]}),
        client.post("/v1/jobs", json={"prompt": "a"}, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert [limit(answer)[0] for answer in answers] == ['"queue";q=3'] * 4
    assert [limit(answer)[1] for answer in answers] == [f'"queue";r={left}' for left in (2, 1, 0, 0)]


@BOTH
def test_a_tenant_may_have_a_limit_of_its_own(
    client: TestClient, stranger: TestClient, database: Database
) -> None:
    """It counts instead of the setting, for this tenant alone; jobs of others count only in all."""
    with database.write() as session:
        session.execute(update(Tenant).where(Tenant.id == "other").values(max_waiting=4))
    for _ in range(3):
        submit(stranger)
    assert limit(stranger.post("/v1/jobs", json={"prompt": "a"})) == ('"queue";q=4', '"queue";r=0')
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, limit(answer)) == (202, ('"queue";q=3', '"queue";r=0'))
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert answer.status_code == 429
    assert answer.json()["detail"] == "5 jobs wait and 5 may (queue.max_depth): send 1 more later"


def test_more_than_may_ever_wait_is_not_told_to_come_later(client: TestClient) -> None:
    """A bulk that is larger than the limit is a mistake that no time cures."""
    answer = client.post("/v1/bulk", json={"jobs": [{"prompt": "a"}] * 4})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "jobs", "message": "4 were sent, and 3 may wait: send fewer together"}
    ]


def test_the_time_to_come_back_is_estimated(
    client: TestClient, stranger: TestClient, worker: FakeWorker
) -> None:
    """From how quickly jobs end, of which tenants who wait have equal parts; only while an LLM is served."""
    worker.publish()  # two jobs a second
    for _ in range(3):
        submit(client)
    bulk = {"jobs": [{"prompt": "a"}] * 3}
    assert client.post("/v1/bulk", json=bulk).headers["retry-after"] == "2"
    submit(stranger)
    assert client.post("/v1/bulk", json=bulk).headers["retry-after"] == "3"
    assert stranger.post("/v1/bulk", json=bulk).headers["retry-after"] == "1"


def waiting(monkeypatch: pytest.MonkeyPatch, *counts: int) -> Iterator[int]:
    """Let so many jobs of the tenant ``a`` wait, one count after the other."""
    left = iter(counts)
    monkeypatch.setattr(counters, "waiting", lambda _session: {"a": next(left)})
    return left


def test_count_is_kept_for_a_moment(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from the limit one count serves many jobs; a refusal is never made on an old one."""
    left = waiting(monkeypatch, 0, 100, 0)
    depth = Depth(sqlite_database, Queue(max_depth=10), lambda: 0.0)
    for _ in range(10):
        with depth.held("a", 1):
            depth.add("a", 1)
        depth.headers("a", 1e9)
    with pytest.raises(Problem, match="100 jobs wait and 10 may"), depth.held("a", 1):
        pass
    with depth.held("a", 10):
        pass
    assert list(left) == []


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, "10"), (1000.0, "1"), (0.5, "8"), (0.001, "300")])
def test_the_time_to_come_back_has_bounds(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, rate: float, seconds: str
) -> None:
    """Never less than a second nor more than five minutes; ten where no rate is known."""
    waiting(monkeypatch, 8, 8)
    depth = Depth(sqlite_database, Queue(max_depth=10), lambda: rate)
    with pytest.raises(Problem) as refused, depth.held("a", 6):
        pass
    assert refused.value.headers == {
        "Retry-After": seconds,
        "RateLimit-Policy": '"queue";q=10',
        "RateLimit": f'"queue";r=2;t={seconds}',
    }


def test_jobs_that_come_at_once_do_not_take_the_same_room(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being stored has its room until it is stored, or until it has come to nothing."""
    left = waiting(monkeypatch, 7, 7, 8, 8)
    depth = Depth(sqlite_database, Queue(max_depth=10, max_tenant_depth=9), lambda: 0.0)
    with depth.held("a", 2):
        with pytest.raises(Problem, match="9 of your jobs wait and 9 may"), depth.held("a", 1):
            pass
        with depth.held("b", 1):
            assert depth.headers("a", 1e9)["RateLimit"] == '"queue";r=2'
            with pytest.raises(Problem, match="11 jobs wait and 10 may"), depth.held("b", 1):
                pass
    with pytest.raises(LookupError), depth.held("a", 1):
        raise LookupError
    with depth.held("a", 1), pytest.raises(Problem), depth.held("a", 1):
        pass
    assert list(left) == []


def test_where_none_may_wait_nobody_is_told_to_come_soon(
    client: TestClient, worker: FakeWorker, database: Database
) -> None:
    """A limit of 0 does not go away when jobs end, however quickly they do."""
    worker.publish()
    with database.write() as session:
        session.execute(update(Tenant).values(max_waiting=0))
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "300")


class Crowd(Counter[str]):
    """Counts to which a job of somebody new is added while they are read, unless that is guarded."""

    depth: Depth

    def values(self) -> Any:
        """The counts, one by one."""
        for count in super().values():
            if not self.depth._guard.locked():
                self.depth.add("new", 1)
            yield count


def test_a_refusal_does_not_mind_jobs_that_come_meanwhile(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to come back is reckoned by counts of one moment, though others store jobs at that moment."""
    waiting(monkeypatch, 8, 8)
    depth = Depth(sqlite_database, Queue(max_tenant_depth=10), lambda: 1.0)
    Crowd.depth = depth
    monkeypatch.setattr("api.depth.Counter", Crowd)
    with pytest.raises(Problem, match="8 of your jobs wait and 10 may"), depth.held("a", 6):
        pass


def test_an_answer_that_jobs_are_stored_does_not_read(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers come out of the last count, however old: a database that is away now changes nothing."""
    left = waiting(monkeypatch, 7)
    depth = Depth(sqlite_database, Queue(max_depth=10), lambda: 0.0)
    with depth.held("a", 1):
        pass
    monkeypatch.setattr("api.depth.SECONDS", -1.0)
    assert depth.headers("a", float("inf"))["RateLimit"] == '"queue";r=3'
    assert list(left) == []


def test_an_attempt_may_not_take_longer_than_the_longest(client: TestClient) -> None:
    """``timeout_seconds`` beyond the setting is refused with the field and what may be asked for."""
    answer = client.post("/v1/jobs", json={"prompt": "a", "timeout_seconds": 61})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "field": "timeout_seconds",
            "message": "61 s are more than an attempt may take here: ask for 60 or less",
        }
    ]
    assert client.post("/v1/jobs", json={"prompt": "a", "timeout_seconds": 60}).status_code == 202
    found = client.get("/openapi.json").json()["components"]["schemas"]["JobBody"]["properties"]
    assert found["timeout_seconds"]["anyOf"][0]["maximum"] == 60


def test_the_headers_are_documented() -> None:
    """Wherever jobs are stored, and wherever they are refused for now."""
    paths = document()["paths"]
    names = {"Retry-After", "RateLimit-Policy", "RateLimit"}
    for path in ("/v1/jobs", "/v1/jobs/{job_id}/retry", "/v1/bulk"):
        answers = paths[path]["post"]["responses"]
        assert answers["202"]["headers"].keys() == {*names, "Location"}
        assert answers["429"]["headers"].keys() == names
        assert answers["503"]["headers"].keys() == {"Retry-After"}

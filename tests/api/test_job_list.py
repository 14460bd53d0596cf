"""Lists of jobs: filters, order, pages."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from models import listing, search
from models.database import Database
from tests.api.conftest import BOTH, FakeWorker
from tests.api.test_jobs import submit
from tests.indexing import index


def ids(client: TestClient, **query: Any) -> list[str]:
    """Ids of the jobs that a query lists."""
    answer = client.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


@BOTH
def test_pages_go_through_all_jobs_once(client: TestClient) -> None:
    """Following ``next_cursor`` shows every job once, newest first, and ends with null."""
    made = [submit(client)["id"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = client.get("/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["data"]]
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]
    assert page["next_cursor"] is None


def test_link_header_leads_to_the_next_page(client: TestClient) -> None:
    """The header Link holds an address that keeps the filters and gives the following jobs."""
    made = [submit(client, tags=["x"])["id"] for _ in range(3)]
    answer = client.get("/v1/jobs?limit=2&tag=x")
    address, relation = answer.headers["link"].split("; ")
    assert relation == 'rel="next"'
    assert [job["id"] for job in client.get(address.strip("<>")).json()["data"]] == made[:1]


@BOTH
def test_filters_narrow(client: TestClient, worker: FakeWorker) -> None:
    """Each filter keeps the jobs it names and no others; two states are either of them."""
    done = submit(client, prompt="first needle")["id"]
    worker.run_all()
    tagged = submit(client, tags=["x"], agent="anna", priority="background")["id"]
    plain = submit(client)["id"]
    client.post(f"/v1/jobs/{plain}/cancel")
    assert ids(client, state="succeeded") == [done]
    assert ids(client, state=["succeeded", "cancelled"]) == [plain, done]
    assert ids(client, tag="x") == ids(client, agent="anna") == ids(client, priority="background") == [tagged]
    assert ids(client, text="NEEDLE") == [done]
    assert ids(client, text=tagged[:20]) == ids(client, text=tagged) == [tagged]
    assert ids(client, llm="pico") == [plain, tagged, done]
    assert ids(client, llm="other") == []


@BOTH
def test_time_filters_split_at_the_given_moment(client: TestClient) -> None:
    """``created_after`` takes the moment itself, ``created_before`` does not."""
    first, second = submit(client), submit(client)
    moment = second["created_at"]
    assert ids(client, created_after=moment) == [second["id"]]
    assert ids(client, created_before=moment) == [first["id"]]


@BOTH
def test_text_means_words(client: TestClient, database: Database) -> None:
    """All words must be there, the last may go on; before the index has come to them and after."""
    found = submit(client, prompt="I am 100% sure of it")["id"]
    submit(client, prompt="1000 times sure")
    for _ in range(2):
        assert (
            ids(client, text="100%") == ids(client, text="SURE, 100 ") == ids(client, text="it su") == [found]
        )
        assert ids(client, text="sure not") == []
        index(database)


def test_text_far_back_is_found_by_following_the_cursor(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks at so many jobs and no more; one that found nothing still leads to the next."""
    monkeypatch.setattr(search, "SCAN", 2)
    wanted = submit(client, prompt="needle")["id"]
    for _ in range(3):
        submit(client)
    first = client.get("/v1/jobs", params={"text": "needle"})
    assert first.json()["data"] == []
    assert [job["id"] for job in client.get(first.links["next"]["url"]).json()["data"]] == [wanted]


def count(client: TestClient, **query: Any) -> tuple[int, bool]:
    """How many jobs a query counts, and whether there may be more."""
    answer = client.get("/v1/jobs/count", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "count"
    return answer.json()["count"], answer.json()["capped"]


@BOTH
def test_counts_take_the_filters_of_lists(
    client: TestClient, stranger: TestClient, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted is what would be listed of the tenant's own; a count that ends early says so."""
    for _ in range(3):
        submit(client, prompt="needle", tags=["x"])
    submit(stranger, prompt="needle", tags=["x"])
    worker.run_all()
    submit(client)
    assert count(client) == (4, False)
    assert count(client, state="succeeded", priority="standard") == (3, False)
    assert count(client, state=["succeeded", "queued"]) == (4, False)
    assert count(client, text="needle") == count(client, tag="x") == (3, False)
    assert count(stranger, tag="x") == (1, False)
    monkeypatch.setattr(listing, "MOST_COUNTED", 2)
    assert count(client, tag="x") == (2, True)
    assert count(client) == (4, False)


@pytest.mark.parametrize("name", ["limit", "cursor"])
def test_a_count_has_no_pages(client: TestClient, name: str) -> None:
    """What only lists take is refused by name."""
    answer = client.get(f"/v1/jobs/count?{name}=5")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == name


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=abc", "cursor"),
        ("cursor=MTox!", "cursor"),
        ("cursor=Mjo1", "cursor"),
        ("cursor=MTotNQ", "cursor"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("state=done", "state"),
        ("priority=high", "priority"),
        ("agent=a%20b", "agent"),
        ("tag=%00", "tag"),
        ("text=", "text"),
        ("text=%25%20-", "text"),
        ("bulk=job_1", "bulk"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-11-20T08:30:00", "created_after"),
        ("sort=up", "sort"),
        ("limit=5&limit=6", "limit"),
        ("tag=a&tag=a", "tag"),
    ],
)
def test_bad_query_names_the_parameter(client: TestClient, query: str, field: str) -> None:
    """A query that cannot be answered is refused with the name of the parameter."""
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(field)

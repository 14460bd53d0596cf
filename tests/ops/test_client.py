"""The client against the real API."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from ops.cli.invocation import Invocation
from ops.client import Client, events_of
from ops.wire import Event, Refused, Unreachable
from tests.ops.conftest import Penstock, Served


def test_a_job_from_submission_to_result(served: Served) -> None:
    """A submitted job is waited for, and its result and usage come back."""
    with served.client() as client:
        job = client.wait(client.submit({"prompt": "hi", "max_tokens": 5})["id"], 30)
    assert job["state"] == "succeeded"
    assert job["result"] is not None
    assert job["result"]["text"]
    assert job["usage"]["completion_tokens"] == 5


def test_the_same_key_gives_the_same_job(served: Served) -> None:
    """A submission may be repeated under its idempotency key without running twice."""
    with served.client() as client:
        ids = {client.submit({"prompt": "hi"}, idempotency_key="once")["id"] for _ in range(2)}
    assert len(ids) == 1


def test_a_wait_ends_when_its_time_is_over(served: Served) -> None:
    """A job that goes on is given back as it is."""
    with served.client() as client:
        job = client.submit({"prompt": "hi", "run_at": "2999-01-01T00:00:00Z"})
        assert client.wait(job["id"], 0.2)["state"] == "scheduled"


def test_a_bulk(served: Served) -> None:
    """Jobs sent together are counted together, and can be listed over several pages."""
    with served.client() as client:
        bulk = client.bulk({"prompt": f"job {number}", "max_tokens": 2} for number in range(250))
        while not bulk["ended"]:
            bulk = client.bulk_state(bulk["id"], wait=10)
        assert bulk["counts"]["succeeded"] == bulk["total"] == 250
        ids = [job["id"] for job in client.jobs(bulk=bulk["id"])]
        assert len(set(ids)) == 250
        assert [job["id"] for job in client.jobs(limit=201, bulk=bulk["id"])] == ids[:201]


def test_filters(served: Served) -> None:
    """What is asked for narrows the list; several states are any of them."""
    with served.client() as client:
        later = client.submit({"prompt": "hi", "tags": ["a"], "run_at": "2999-01-01T00:00:00Z"})["id"]
        now = client.wait(client.submit({"prompt": "hi", "tags": ["a"]})["id"], 30)["id"]
        assert [job["id"] for job in client.jobs(tag="b")] == []
        assert [job["id"] for job in client.jobs(tag="a", state=["scheduled"])] == [later]
        both = client.jobs(tag="a", state=["scheduled", "succeeded"])
        assert [job["id"] for job in both] == [now, later]


def test_cancel_retry_delete(served: Served) -> None:
    """A job is cancelled, submitted again as a new one, and deleted."""
    with served.client() as client:
        job = client.submit({"prompt": "hi", "run_at": "2999-01-01T00:00:00Z"})
        assert client.cancel(job["id"])["state"] == "cancelled"
        assert client.retry(job["id"])["retry_of"] == job["id"]
        client.delete(job["id"])
        with pytest.raises(Refused, match="HTTP 404"):
            client.job(job["id"])


def test_events_until_the_end(served: Served) -> None:
    """The stream of an ended job has its states and all its text, then ends by itself."""
    with served.client() as client:
        job = client.wait(client.submit({"prompt": "hi", "max_tokens": 5})["id"], 30)
        events = list(client.events(job["id"]))
        rest = list(client.events(job["id"], after=events[-1].id))
    states = [event.data["state"] for event in events if event.type == "state"]
    assert states[-1] == "succeeded"
    assert job["result"] is not None
    assert "".join(e.data["text"] for e in events if e.type == "tokens") == job["result"]["text"]
    assert rest == []


def test_a_refusal_names_the_fields(served: Served) -> None:
    """The message of a refused body says which field is wrong."""
    with served.client() as client, pytest.raises(Refused, match=r"(?s)max_tokens.*temperature") as caught:
        client.submit({"prompt": "hi", "max_tokens": 0, "temperature": 9})
    assert caught.value.status == 422


def test_a_wrong_key(served: Served) -> None:
    """A key that opens nothing is told, with the place of the right one."""
    with Client(served.url, "pk_no_no") as client, pytest.raises(Refused, match="api-key"):
        client.submit({"prompt": "hi"})


def test_nobody_there() -> None:
    """Where nothing listens, the cure is named."""
    with Client("http://127.0.0.1:9", "pk") as client, pytest.raises(Unreachable, match="penstock up"):
        client.submit({"prompt": "hi"})


def test_an_answer_that_is_no_problem_document() -> None:
    """What some proxy says instead is shown as it is."""
    gone = httpx2.MockTransport(lambda _: httpx2.Response(502, text="bad gateway"))
    with (
        Client("http://example.invalid", "pk", transport=gone) as client,
        pytest.raises(Refused, match="bad gateway"),
    ):
        client.job("job_1")


def test_a_wait_survives_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is away for a moment, or whose database is busy, is asked again."""
    monkeypatch.setattr("ops.client.PAUSE_SECONDS", 0)
    answers = iter(["gone", "busy", "ended"])

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = next(answers)
        if kind == "gone":
            raise httpx2.ConnectError("refused", request=request)
        return httpx2.Response(503) if kind == "busy" else httpx2.Response(200, json={"state": "failed"})

    with Client("http://example.invalid", "pk", transport=httpx2.MockTransport(answer)) as client:
        assert client.wait("job_1")["state"] == "failed"


class Full:
    """A service that refuses so many submissions, and takes the next; notes keys and pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *refusals: tuple[int, str | None]) -> None:
        self.refusals = list(refusals)
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []
        self.said: list[str] = []
        monkeypatch.setattr("ops.client.time.sleep", self.pauses.append)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """A refusal with its Retry-After, or a job."""
        self.requests.append(request)
        if not self.refusals:
            return httpx2.Response(202, json={"id": "job_1", "total": 1})
        status, after = self.refusals.pop(0)
        headers = {} if after is None else {"Retry-After": after}
        return httpx2.Response(status, json={"detail": "no room"}, headers=headers)

    def client(self) -> Client:
        """A client of it."""
        return Client("http://example.invalid", "pk", transport=httpx2.MockTransport(self.answer))


SUBMISSIONS: dict[str, Callable[[Client], object]] = {
    "job": lambda client: client.submit({"prompt": "hi"}),
    "bulk": lambda client: client.bulk([{"prompt": "hi"}]),
    "retry": lambda client: client.retry("job_0"),
}


@pytest.mark.parametrize("kind", SUBMISSIONS)
def test_a_submission_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A full queue and a busy database are waited for as long as they say, always under the same key."""
    full = Full(monkeypatch, (429, "7"), (503, "2"), (429, "0"))
    with full.client() as client:
        assert SUBMISSIONS[kind](client) == {"id": "job_1", "total": 1}
    assert full.pauses == [7, 2, 1]
    keys = [request.headers["idempotency-key"] for request in full.requests]
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert {request.read() for request in full.requests} == {full.requests[0].read()}


def test_who_submits_is_told_once_that_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason and the patience are said at the first refusal only, and never without one."""
    full = Full(monkeypatch, (429, "1"), (429, "1"))
    with full.client() as client:
        client.submit({"prompt": "hi"}, idempotency_key="mine", told=full.said.append)
        client.submit({"prompt": "hi"}, told=full.said.append)
    assert full.said == ["no room (HTTP 429) Trying again for up to 60 s."]
    keys = [request.headers["idempotency-key"] for request in full.requests]
    assert keys[:3] == ["mine"] * 3
    assert keys[3] != "mine"


@pytest.mark.parametrize(("arguments", "stdin"), [(["hi"], ""), (["--jsonl", "-"], '{"prompt": "hi"}')])
def test_the_command_line_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, penstock: Penstock, arguments: list[str], stdin: str
) -> None:
    """``penstock submit`` tells the person on stderr, and prints nothing but the id on stdout."""
    full = Full(monkeypatch, (429, "3"))
    monkeypatch.setattr(Invocation, "client", lambda *_: full.client())
    done = penstock("submit", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout, full.pauses) == (0, "job_1\n", [3])
    assert done.stderr.startswith("no room (HTTP 429) Trying again for up to 60 s.\n")


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute in all the refusal is raised; a wait beyond it is not begun."""
    full = Full(monkeypatch, *[(429, "25")] * 3)
    with full.client() as client, pytest.raises(Refused, match="no room"):
        client.submit({"prompt": "hi"})
    assert full.pauses == [25, 25]


@pytest.mark.parametrize(
    "refusal", [(429, None), (429, "Fri, 20 Nov 2026 08:00:00 GMT"), (422, "1"), (500, "1")]
)
def test_other_refusals_are_raised_at_once(
    monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str | None]
) -> None:
    """Without seconds to wait, or where waiting cures nothing, nobody waits."""
    full = Full(monkeypatch, refusal)
    with full.client() as client, pytest.raises(Refused):
        client.submit({"prompt": "hi"}, told=full.said.append)
    assert (full.pauses, full.said) == ([], [])


def test_event_streams() -> None:
    """Comments are skipped, data may stand on several lines, and an id belongs to its event."""
    lines = [": hello", "", "id: 7", "event: tokens", 'data: {"text":', 'data: "a"}', "", "data: {}", ""]
    assert list(events_of(lines)) == [Event("7", "tokens", {"text": "a"}), Event("", "message", {})]

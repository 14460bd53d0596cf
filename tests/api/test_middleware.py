"""What every request passes through: ids, hosts, sizes, and the last resort."""

from __future__ import annotations

import json
import logging
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from config.settings import Server, Settings
from models.database import Unavailable
from tests.service import wait_until

MEGABYTE = 1_048_576


def test_request_id_is_made_or_taken(client: TestClient) -> None:
    """Every answer carries the client's request id, or a new one when that has no proper shape."""
    assert client.get("/v1/jobs", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    for odd in ("", "a b", "x" * 129, "ä"):
        made = client.get("/v1/jobs", headers={b"X-Request-ID": odd.encode()}).headers["x-request-id"]
        assert made.startswith("req_"), odd


def test_problem_names_the_request(client: TestClient) -> None:
    """The id in the header is the one in the body of a problem."""
    answer = client.get("/nowhere")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("GET", "/docs", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("GET", "/v1/jobs/job_1", 404, "not-found"),
        ("GET", "/v1/jobs/%00", 404, "not-found"),
    ],
)
def test_router_answers_with_problems(
    client: TestClient, method: str, path: str, status: int, kind: str
) -> None:
    """What no route takes is a problem too."""
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:penstock:problem:{kind}"


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/jobs", 200), ("/v1/jobs/job_1", 404), ("/health/live", 200), ("/metrics", 200)]
)
def test_head_is_get_without_the_body(
    remote: httpx2.Client, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    """Status and headers are those of GET; the log shows what was asked."""
    caplog.set_level(logging.INFO, "penstock.access")
    got, head = remote.get(path), remote.head(path)
    assert (head.status_code, got.status_code, head.content) == (status, status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    wait_until(lambda: f"HEAD {path} {status}" in caplog.text)
    assert 'method="HEAD",route="(none)"' not in remote.get("/metrics").text


def test_head_of_a_stream_ends(remote: httpx2.Client) -> None:
    """Where GET would go on for as long as the job runs, HEAD is answered and the connection serves on."""
    job_id = remote.post("/v1/jobs", json={"prompt": "a"}).json()["id"]
    head = remote.head(f"/v1/jobs/{job_id}/events?stream=true")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert remote.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "request_text", ["nonsense\r\n\r\n", "GET /health/live HTTP/1.1\r\nHo st: x\r\n\r\n"]
)
def test_what_is_no_http_is_refused_by_a_problem(address: str, request_text: str) -> None:
    """What never reaches the application gets a problem with a request id too, and the connection closes."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_text.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert "content-type: application/problem+json" in head.lower()
    assert f"content-length: {len(body)}" in head.lower()
    assert problem["type"] == "urn:penstock:problem:malformed-http"
    assert problem["request_id"] in head


def test_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    """A 405 lists the methods that are known."""
    assert set(client.put("/v1/jobs").headers["allow"].split(", ")) & {"GET", "POST"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8180", 200), ("127.0.0.1:1", 200), ("[::1]:8180", 200),
        ("[::1]", 200),
        ("evil.example", 421), ("localhost.evil.example", 421),
        ("127.0.0.1.nip.example:80", 421), ("", 421),
        ("localhost:80:80", 421), ("localhost@evil.example", 421),
    ],
)  # fmt: skip
def test_only_known_hosts_are_answered(client: TestClient, host: str, status: int) -> None:
    """A request for another host is refused, health included: DNS rebinding ends here."""
    answer = client.get("/health/live", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert answer.json()["type"] == "urn:penstock:problem:misdirected-host"


def test_any_host_may_be_allowed(settings: Settings, app: FastAPI, client: TestClient) -> None:
    """With ``*`` among the allowed hosts the check is off."""
    from api.app import create_app

    server = Server(allowed_hosts=("*",))
    open_app = create_app(settings.model_copy(update={"server": server}), app.state.door.database)
    assert TestClient(open_app).get("/health/live", headers={"Host": "any.example"}).status_code == 200


def test_unexpected_errors_tell_only_the_log(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is a 500 without its message; the log has both under the request's id."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr("api.routes.jobs.listing.page", fail)
    answer = client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:penstock:problem:internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "the secret of the house" in caplog.text


def test_database_that_fails_is_a_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """When SQLite cannot be used the client is told the reason and to come back."""

    def fail(*_: object) -> None:
        raise Unavailable("database or disk is full")

    monkeypatch.setattr("api.routes.jobs.submission.submit", fail)
    answer = client.post("/v1/jobs", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:penstock:problem:database-unavailable"
    assert "database or disk is full" in answer.json()["detail"]


def test_access_log_has_a_line_for_each_answer(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, status and request id are logged; keys are not."""
    with caplog.at_level(logging.INFO, "penstock.access"):
        request_id = client.get("/v1/jobs?limit=5").headers["x-request-id"]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "penstock.access"]
    assert line.startswith("GET /v1/jobs 200")
    assert line.endswith(request_id)
    assert "pk_" not in line


class TestLargeBodies:
    """Bodies above a limit of one megabyte, over real sockets."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        """At most a megabyte."""
        return settings.model_copy(update={"server": Server(port=0, max_body_bytes=MEGABYTE)})

    def pieces(self, count: int) -> Iterator[bytes]:
        """So many megabytes, one at a time."""
        piece = b" " * MEGABYTE
        return (piece for _ in range(count))

    def test_told_size_is_refused(self, remote: httpx2.Client) -> None:
        """A body whose length says too much gets its 413, and the connection serves on."""
        kind = {"Content-Type": "application/json"}
        answer = remote.post("/v1/jobs", content=b" " * (50 * MEGABYTE), headers=kind)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:penstock:problem:too-large")
        assert remote.post("/v1/jobs", json={"prompt": "a"}).status_code == 202

    @pytest.mark.parametrize("connection", ["keep-alive", "close"])
    def test_untold_size_is_refused_when_it_is_reached(self, remote: httpx2.Client, connection: str) -> None:
        """A body in chunks is cut off at the limit, and the answer still arrives."""
        headers = {"Content-Type": "application/json", "Connection": connection}
        answer = remote.post("/v1/bulk", content=self.pieces(50), headers=headers)
        assert answer.status_code == 413

    def test_closing_connection_still_carries_the_answer(self, remote: httpx2.Client) -> None:
        """A client that closes after its request, and says its size, reads the 413 too."""
        headers = {"Content-Type": "application/json", "Connection": "close"}
        answer = remote.post("/v1/jobs", content=b" " * (50 * MEGABYTE), headers=headers)
        assert answer.status_code == 413

    def test_large_body_is_never_held(self, remote: httpx2.Client) -> None:
        """Refusing 50 MB takes a small part of that in memory."""
        headers = {"Content-Type": "application/json"}
        tracemalloc.start()
        try:
            remote.post("/v1/jobs", content=self.pieces(50), headers=headers)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 12 * MEGABYTE

    def test_who_asks_first_need_not_send(self, address: str, key: str) -> None:
        """With ``Expect: 100-continue`` the refusal comes before the body."""
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Length: {50 * MEGABYTE}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_client_that_hangs_up_while_sending_is_no_fault(
    address: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that ends half-way leaves no error in the log, and others are served."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
    assert httpx2.get(f"{address}/health/live").status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert threading.active_count() < 50

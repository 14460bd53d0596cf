"""The parts of the benchmarks; the benchmarks themselves are a command, never a timed test.

Their arithmetic (ratios, medians, percentiles, turns, targets) is in ``test_statistics.py``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from ops.bench import as_document, bare_app, llms, pickup, throughput
from ops.bench.figure import Effort, Figure
from ops.bench.load import Visitor, rate, request
from ops.client import Client
from ops.complaint import Complaint
from tests.ops.conftest import wait_until


class Counting(BaseHTTPRequestHandler):
    """Answers every POST with 202, or 429 for the path /full."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        """Note the request and answer in two pieces."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.headers.get("Authorization", ""), body))
        self.send_response(429 if self.path == "/full" else 202)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"do")
        self.wfile.flush()
        self.wfile.write(b"ne")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server that counts."""
    Counting.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_is_sent_once(url: str) -> None:
    """The connections share the requests without rest, and each carries key and body."""
    assert rate(url, request(url, "/x", {"a": 1}, "pk"), count=23, connections=4) > 0
    assert Counting.seen == [("Bearer pk", b'{"a": 1}')] * 23


def test_a_refused_request_ends_the_measurement(url: str) -> None:
    """A rate of refusals is no rate: the answer is told instead."""
    with pytest.raises(Complaint, match="429"):
        rate(url, request(url, "/full", {}), count=2, connections=1)


def test_a_visitor_measures_while_something_else_happens(url: str) -> None:
    """Another client's waits are there when the block ends, one for each of its requests."""
    with Visitor(url, request(url, "/x", {}), pause_seconds=0.001) as seconds:
        wait_until(lambda: len(seconds) > 2)
    assert all(wait > 0 for wait in seconds)
    assert len(seconds) == len(Counting.seen)


def test_a_visitor_that_is_refused(url: str) -> None:
    """What was answered to the other client instead of a success is told when the block ends."""
    with pytest.raises(Complaint, match="429"), Visitor(url, request(url, "/full", {}), pause_seconds=0):
        wait_until(lambda: bool(Counting.seen))


def test_the_bare_application_stores_a_row(tmp_path: Path) -> None:
    """The yardstick really inserts, durably, and refuses what its body does not know."""
    file = tmp_path / "a.db"
    client = TestClient(bare_app.create(str(file)))
    answers = [client.post("/rows", json={"prompt": "p", "max_tokens": 1}) for _ in range(2)]
    assert [(answer.status_code, answer.json()["id"]) for answer in answers] == [(202, 1), (202, 2)]
    assert client.post("/rows", json={"prompt": "p", "max_tokens": 1, "x": 1}).status_code == 422
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM bench_rows").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_pico_without_an_end(tmp_path: Path) -> None:
    """In the copy every file names the padding token as the end, and the weights are the same."""
    folder = llms.endless_pico(tmp_path / "pico")
    config = json.loads((folder / "config.json").read_text())
    assert config["eos_token_id"] == config["pad_token_id"]
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == tokenizer["pad_token"]
    assert (folder / "model.safetensors").read_bytes() == (llms.PICO / "model.safetensors").read_bytes()


def test_the_random_llama(tmp_path: Path) -> None:
    """It has about 100 million numbers, and its end of sequence can never be the likeliest token."""
    from safetensors.numpy import load_file

    assert 95e6 < llms.parameters(llms.LLAMA) < 105e6
    small = replace(llms.LLAMA, layers=1)
    folder = llms.random_llama(tmp_path / "llama", small, dtype="float32")
    weights = load_file(folder / "model.safetensors")
    assert sum(array.size for array in weights.values()) == llms.parameters(small)
    config = json.loads((folder / "config.json").read_text())
    assert not weights["lm_head.weight"][config["eos_token_id"]].any()
    assert (folder / "tokenizer.json").exists()


def test_prompts_differ() -> None:
    """All 64 prompts are real lines, no two of them alike."""
    assert len({chat[1]["content"] for chat in throughput.chats(64)}) == 64


def test_rates_of_unlike_work_do_not_compare() -> None:
    """A side that generated fewer tokens than were asked for ends the benchmark."""
    throughput._check(64 * 256, 64 * 256)
    with pytest.raises(Complaint, match="do not compare"):
        throughput._check(64 * 256 - 1, 64 * 256)


class Idle:
    """A client of a service on which each look at the metrics shows what has happened since the last."""

    def __init__(self, pickups: int, seconds: float) -> None:
        self.looks = iter([(10, 1.0), (10 + pickups, 1.0 + seconds)])

    def metrics(self) -> str:
        """The pick-ups so far, in number and in seconds."""
        count, seconds = next(self.looks)
        return (
            "# TYPE penstock_pickup_seconds histogram\n"
            f'penstock_pickup_seconds_sum{{llm="pico"}} {seconds}\n'
            f'penstock_pickup_seconds_count{{llm="pico"}} {count}\n'
        )

    def submit(self, _: dict[str, Any]) -> dict[str, Any]:
        """A job that is stored when it is answered."""
        return {"id": "job_1", "created_at": datetime.now(UTC).isoformat()}

    def wait(self, *_: object) -> None:
        """It has ended."""


def test_a_pick_up_begins_before_the_request() -> None:
    """To what the worker measured comes the time that passed before the job was stored."""
    assert pickup.one(cast(Client, Idle(1, 0.25))) >= 0.25


def test_a_pick_up_beside_others_is_none() -> None:
    """When another client's job was picked up meanwhile, nothing is measured."""
    with pytest.raises(Complaint, match="Another client"):
        pickup.one(cast(Client, Idle(2, 0.25)))


def test_the_document() -> None:
    """Value, target and verdict of each figure stand in the JSON, with all measurements."""
    figure = Figure("x", 0.5, "", "at least", 0.9, {"rounds": [1, 2]})
    found = json.loads(json.dumps(as_document([figure], Effort.quick(), {"cores": 2})))
    (told,) = found["figures"]
    assert (told["value"], told["target"], told["met"]) == (0.5, "at least 0.9", False)
    assert told["details"] == {"rounds": [1, 2]}
    assert found["effort"]["rounds"] == 1

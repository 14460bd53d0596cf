"""Bad input gets a clear answer, and nothing is stored."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.problems import MOST_FAULTS
from api.wire.problem import Fault
from tests.api.conftest import FakeWorker
from tests.workers.backends.llms import save_tiny_llm

HI = {"prompt": "hello"}
USER = {"role": "user", "content": "hello"}


def time(**ahead: float) -> str:
    """A time relative to now, as RFC 3339."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def errors(client: TestClient, content: str | bytes) -> dict[str, str]:
    """The faults of a body that must be refused with 422, by field; nothing may be stored."""
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/jobs").json()["data"] == []
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


def refused(client: TestClient, **body: Any) -> dict[str, str]:
    """The faults of a job."""
    answer = client.build_request("POST", "/v1/jobs", json=body)
    return errors(client, answer.content)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "prompt", "neither was given"),
        ({"messages": [USER], "prompt": "x"}, "messages", "both were given"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": 5}, "prompt", "valid string"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "at least 1 character"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'user'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "is required"),
        ({"messages": [USER, {**USER, "name": "x"}]}, "messages[1].name", "not a known field"),
        ({"messages": [{**USER, "content": [{"type": "image"}]}]}, "messages[0].content[0].type", "'text'"),
        ({**HI, "promt": "x"}, "promt", "did you mean prompt?"),
        ({**HI, "webhook": {"url": "https://a.example"}}, "webhook", "has not landed yet"),
        ({**HI, "max_cost": "1"}, "max_cost", "has not landed yet"),
        ({**HI, "tools": []}, "tools", "has not landed yet"),
        ({**HI, "response_format": {"type": "json_schema"}}, "response_format.type", "has not landed yet"),
        ({**HI, "llm": "picco"}, "llm", "there is: pico"),
        ({**HI, "agent": "a b"}, "agent", "letters, digits"),
        ({**HI, "agent": "x" * 129}, "agent", "128"),
        ({**HI, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({**HI, "max_tokens": 10**9}, "max_tokens", "less than or equal to"),
        ({**HI, "max_tokens": "12"}, "max_tokens", "valid integer"),
        ({**HI, "max_tokens": True}, "max_tokens", "valid integer"),
        ({**HI, "temperature": 3}, "temperature", "less than or equal to 2"),
        ({**HI, "top_p": 0}, "top_p", "greater than 0"),
        ({**HI, "seed": -1}, "seed", "greater than or equal to 0"),
        ({**HI, "stop": [""]}, "stop[0]", "at least 1 character"),
        ({**HI, "stop": ["x"] * 9}, "stop", "at most 8"),
        ({**HI, "tags": ["x"] * 33}, "tags", "at most 32"),
        ({**HI, "tags": ["x" * 65]}, "tags[0]", "64"),
        ({**HI, "tags": {"a": "b"}}, "tags", "should be an array"),
        ({**HI, "metadata": []}, "metadata", "should be an object"),
        ({"messages": ["x"]}, "messages[0]", "should be an object"),
        ({**HI, "metadata": {"a": [[[[1]]]]}}, "metadata.a", "valid string"),
        ({**HI, "metadata": {"a": 1}}, "metadata.a", "valid string"),
        ({**HI, "metadata": {str(n): "" for n in range(33)}}, "metadata", "at most 32"),
        ({**HI, "metadata": {"a": "x\0"}}, "metadata.a", "NUL"),
        ({**HI, "priority": "high"}, "priority", "'interactive'"),
        ({**HI, "timeout_seconds": 0}, "timeout_seconds", "greater than 0"),
        ({**HI, "max_attempts": 21}, "max_attempts", "less than or equal to 20"),
        ({**HI, "run_at": "2001-01-01T00:00:00Z"}, "run_at", "in the past"),
        ({**HI, "run_at": "2026-11-20T08:30:00"}, "run_at", "with its zone"),
        ({**HI, "run_at": "5"}, "run_at", "RFC 3339"),
        ({**HI, "run_at": 5}, "run_at", "RFC 3339"),
        ({**HI, "run_at": "2026-02-30T08:30:00Z"}, "run_at", "existing"),
        ({**HI, "run_at": "9999-12-31T23:59:59-10:00"}, "run_at", "RFC 3339"),
        ({**HI, "expires_at": "2001-01-01T00:00:00Z"}, "expires_at", "in the past"),
        ({**HI, "run_at": time(hours=2), "expires_at": time(hours=1)}, "expires_at", "later than run_at"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)  # fmt: skip
def test_bad_field_is_named_with_its_cure(
    client: TestClient, body: dict[str, Any], field: str, message: str
) -> None:
    """Each kind of bad value is refused with the field's name and what would do."""
    assert message in refused(client, **body)[field]


def test_all_faults_are_told_at_once(client: TestClient) -> None:
    """A client learns of everything that is wrong in one answer."""
    assert set(refused(client, prompt=1, top_p=7, nonsense=1)) == {"prompt", "top_p", "nonsense"}


def test_half_a_surrogate_pair_is_named(client: TestClient) -> None:
    """A text that is no Unicode is refused with its field, also within lists and as a name."""
    assert "surrogate" in errors(client, r'{"prompt": "\ud800"}')["prompt"]
    found = errors(
        client, r'{"messages": [{"role": "user", "content": "a\udfff"}], "metadata": {"\ud800": "x"}}'
    )
    assert set(found) == {"messages[0].content", r"metadata.\ud800"}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"prompt": "a",}', "line 1 column 16"),
        (b'{"prompt":\n"a', "line 2 column 2"),
        (b"", "line 1 column 0"),
        (b"{" * 5000, "line 1 column 2"),
        (b"[" * 100_000, "line 1 column"),
        (b'{"prompt": ' + b"[" * 990 + b"]" * 990 + b"}", "nested too deeply at line 1 column"),
        (b'\xff{"prompt": "a"}', "not UTF-8 at byte 0"),
    ],
)
def test_malformed_json_says_where(client: TestClient, content: bytes, place: str) -> None:
    """What is not JSON is a 400 that names line and column."""
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:penstock:problem:malformed-json"
    assert place in answer.json()["detail"]


@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"'])
def test_json_that_is_no_object_is_refused(client: TestClient, content: str) -> None:
    """JSON of another shape is refused as a whole."""
    assert "object" in errors(client, content)["body"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonl", ""])
def test_other_content_types_are_415(client: TestClient, kind: str) -> None:
    """A job is JSON, and said to be."""
    answer = client.post("/v1/jobs", content=b'{"prompt": "a"}', headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["accept-post"]) == (415, "application/json")


@pytest.mark.parametrize("kind", ["application/json; charset=latin-1", "application/json;charset=UTF-16"])
def test_other_charsets_are_415(client: TestClient, kind: str) -> None:
    """JSON is UTF-8: whoever says otherwise is told so, and UTF-8 may be said."""
    answer = client.post("/v1/jobs", content=b'{"prompt": "a"}', headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["detail"][:15]) == (415, "send UTF-8, not")
    said = {"Content-Type": 'application/json; charset="UTF-8"'}
    assert client.post("/v1/jobs", content=b'{"prompt": "a"}', headers=said).status_code == 202


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/bulk"])
def test_packed_bodies_are_415(client: TestClient, path: str) -> None:
    """A body that says it is compressed is refused for that, not taken for broken JSON."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post(path, content=gzip.compress(b'{"prompt": "a"}'), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert "gzip" in answer.json()["detail"]


MANY = 300_000
"""Wrong things in one body: more than are looked at, far more than are told."""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [1] * MANY}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [1] * MANY}]}, "messages[0].content[0]"),
        ({"messages": [dict.fromkeys(map(str, range(MANY)))]}, "messages[0]"),
        ({**HI, "stop": [1] * MANY}, "stop[0]"),
        ({**HI, "tags": [""] * MANY}, "tags[0]"),
        ({**HI, "tags": ["x"] * MANY}, "tags"),
        ({**HI, "metadata": dict.fromkeys(map(str, range(MANY)))}, "metadata.0"),
        ({**HI, **dict.fromkeys(map(str, range(MANY)))}, "body"),
        ({**HI, "tags": ["\ud800"] * MANY}, "tags[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_many_faults_are_not_all_explained(
    client: TestClient, body: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is wrong with a body, a bounded number of faults is made of it."""
    made: list[str] = []

    def count(**values: str) -> Fault:
        made.append(values["field"])
        return Fault(**values)

    monkeypatch.setattr("api.explain.Fault", count)
    found = errors(client, json.dumps(body))
    assert field in found
    assert len(found) <= len(made) <= MOST_FAULTS


def test_what_an_llm_cannot_hold_is_refused(client: TestClient, worker: FakeWorker) -> None:
    """Once the context length is known, as many tokens to generate are refused with the numbers."""
    worker.publish(context_length=64)
    assert "64 tokens of pico" in refused(client, prompt="x", max_tokens=64)["max_tokens"]


def test_prompt_that_does_not_fit_is_told_its_length(
    client: TestClient, worker: FakeWorker, tmp_path: Path
) -> None:
    """With a tokenizer at hand, a prompt near the limit is told its length, a huge one that it is longer."""
    worker.publish(context_length=64, tokenizer=str(save_tiny_llm(tmp_path / "tiny", weights=False)))
    near = refused(client, prompt="x" * 100, max_tokens=8)["prompt"]
    assert near.startswith("102 tokens and 8 to generate are more than the 64 that pico takes")
    beyond = refused(client, messages=[{"role": "user", "content": "x" * 1_000_000}])["messages"]
    assert beyond.startswith("more than 64 tokens and 1 to generate are more than the 64 that pico takes")
    job = client.post("/v1/jobs", json={"prompt": "x" * 40})
    assert job.status_code == 202
    (claim,) = worker.claim()
    assert '"max_tokens":22' in claim.request


def test_what_nobody_can_count_is_left_to_the_worker(client: TestClient, worker: FakeWorker) -> None:
    """Without a tokenizer within reach a long prompt is stored: the worker has the last word."""
    worker.publish(context_length=64)
    assert client.post("/v1/jobs", json={"prompt": "word " * 100, "max_tokens": 8}).status_code == 202


def test_llm_may_be_named_by_its_id(client: TestClient) -> None:
    """The path or hub id that an alias stands for names it too."""
    answer = client.post("/v1/jobs", json={**HI, "llm": "builtin:pico"})
    assert (answer.status_code, answer.json()["llm"]) == (202, "pico")


def test_time_a_moment_ago_is_now(client: TestClient) -> None:
    """Clocks differ a little: a ``run_at`` of two seconds ago runs at once."""
    answer = client.post("/v1/jobs", json={**HI, "run_at": time(seconds=-2)})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_text_format_may_be_said(client: TestClient) -> None:
    """``response_format`` takes what there is, by name or as an object."""
    for form in ("text", {"type": "text"}):
        assert client.post("/v1/jobs", json={**HI, "response_format": form}).status_code == 202

"""Bad input gets a clear answer, and nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.conftest import FakeWorker

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


def test_what_an_llm_cannot_hold_is_refused(client: TestClient, worker: FakeWorker) -> None:
    """Once the context length is known, as many tokens to generate are refused with the numbers."""
    worker.publish(context_length=64)
    assert "64 tokens of pico" in refused(client, prompt="x", max_tokens=64)["max_tokens"]


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

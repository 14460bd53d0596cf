"""The demo's choice of work and its judgement; the demo itself is a command of its own."""

from __future__ import annotations

import json
from typing import cast

import httpx2
import pytest

from ops.client import Client
from ops.demo import tables
from ops.demo.play import Played, play
from ops.demo.verdict import judge
from ops.demo.work import AGENTS, TURNS, Entry, body, choose
from ops.figures import Totals, totals
from ops.lines import SYSTEM_MESSAGE, load_lines
from ops.wire import Job

BUSY = Totals(decoded_tokens=1000, decode_steps=100, pickup_seconds=0, pickups=0)


def job(text: str | None, state: str = "succeeded") -> Job:
    """An ended job that answered ``text``."""
    made = {
        "id": "job_1",
        "state": state,
        "created_at": "2026-11-20T08:30:00Z",
        "started_at": "2026-11-20T08:30:01Z",
        "finished_at": "2026-11-20T08:30:03Z",
        "error": None if text is not None else {"type": "timeout", "message": "too long"},
        "result": None if text is None else {"text": text, "json": None, "finish_reason": "stop"},
        "usage": {"prompt_tokens": 700, "cached_tokens": 0, "completion_tokens": 50},
        "cost": {"currency": "EUR", "amount": "0.000045"},
    }
    return cast(Job, made)


def perfect(entry: Entry) -> str:
    """The right answer for an entry."""
    return json.dumps(entry.line.expected)


@pytest.fixture
def played() -> Played:
    """Work that was all answered rightly."""
    work = choose(120)
    entries = [*work.bulk, *work.alone, *(entry for turns in work.conversations for entry in turns)]
    return Played(tuple((entry, job(perfect(entry))) for entry in entries), seconds=10.0)


def test_all_families_and_ways_of_submitting() -> None:
    """120 different lines are chosen from every family: agents' turns, single jobs and a bulk."""
    work = choose(120)
    entries = [*work.bulk, *work.alone, *(entry for turns in work.conversations for entry in turns)]
    assert work.total == len({entry.name for entry in entries}) == 120
    assert {entry.line.family for entry in entries} == {line.family for line in load_lines()}
    assert [len(turns) for turns in work.conversations] == [TURNS] * len(AGENTS)
    assert all(entry.agent for turns in work.conversations for entry in turns)
    assert len(work.alone) > 1


def test_a_turn_holds_the_whole_conversation() -> None:
    """The second turn has the system message, the first line, its answer, and the new line."""
    first, second = choose(120).conversations[0][:2]
    asked = body(second, [(first.line.text, "answer")])
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "user"]
    texts = [message["content"] for message in asked["messages"]]
    assert texts == [SYSTEM_MESSAGE, first.line.text, "answer", second.line.text]
    assert asked["agent"] == second.agent


def test_a_perfect_run(played: Played) -> None:
    """All fields right, large batches: nothing to complain of, and the sums are exact."""
    verdict = judge(choose(120), played, BUSY, is_pico=True)
    assert verdict.reasons == ()
    assert verdict.known[0] == verdict.known[1] > 300
    valkey = [entry for entry, _ in played.done if entry.line.family == "valkey"]
    assert verdict.unknown == (4 * len(valkey), 4 * len(valkey))
    assert str(verdict.cost) == "0.005400"
    assert (verdict.tokens_per_second, verdict.mean_batch) == (600, 10)
    assert "120 jobs in 10.0 s, accuracy 100.0% (unknown family 100.0%)" in tables.summary(verdict)


def test_too_many_wrong_answers(played: Played) -> None:
    """Less than nine tenths of the fields fail the demo for pico; for another LLM they are only told."""
    wrong = tuple((entry, job("{}") if at % 5 == 0 else done) for at, (entry, done) in enumerate(played.done))
    (reason,) = judge(choose(120), Played(wrong, 10.0), BUSY, is_pico=True).reasons
    assert reason.startswith("accuracy is ")
    assert judge(choose(120), Played(wrong, 10.0), BUSY, is_pico=False).reasons == ()


def test_failed_and_missing_jobs(played: Played) -> None:
    """A job that failed, and turns that were therefore never submitted, fail the demo."""
    (entry, _), *others = played.done
    broken = Played(((entry, job(None, "failed")), *others[:-2]), 10.0)
    reasons = judge(choose(120), broken, BUSY, is_pico=True).reasons
    assert reasons == (f"{entry.name} failed: timeout: too long", "2 jobs were never submitted")


def test_small_batches(played: Played) -> None:
    """A mean batch under four fails the demo."""
    slow = Totals(decoded_tokens=399, decode_steps=100, pickup_seconds=0, pickups=0)
    assert judge(choose(120), played, slow, is_pico=True).reasons == ("the mean batch is 3.99, less than 4",)


def test_totals_are_summed_over_labels() -> None:
    """Figures of several LLMs count together; buckets and other metrics do not."""
    text = """
# TYPE penstock_engine_steps_total counter
penstock_engine_steps_total{llm="a"} 3.0
penstock_engine_steps_total{llm="b"} 4.0
# TYPE penstock_engine_decoded_tokens_total counter
penstock_engine_decoded_tokens_total{llm="a"} 30.0
# TYPE penstock_pickup_seconds histogram
penstock_pickup_seconds_bucket{le="0.1",llm="a"} 1.0
penstock_pickup_seconds_sum{llm="a"} 0.05
penstock_pickup_seconds_count{llm="a"} 1.0
"""
    assert totals(text) == Totals(decoded_tokens=30, decode_steps=7, pickup_seconds=0.05, pickups=1)


def test_a_refusal_ends_the_demo() -> None:
    """When the service refuses one submission the others stop waiting, and the reason is told."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and request.url.path == "/v1/bulk":
            return httpx2.Response(422, json={"detail": "not like this"})
        return httpx2.Response(202, json={"id": "job_1", "state": "queued", "result": None})

    transport = httpx2.MockTransport(answer)
    with pytest.raises(Exception, match="not like this"):
        play(lambda: Client("http://example.invalid", "pk", transport=transport), choose(120))

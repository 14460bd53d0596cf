"""The real LLM behind the whole service: `up`, HTTP, MLX, a bill, a clean stop."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from config.prices import load_prices
from ops.demo.work import Entry, body
from ops.lines import load_lines
from ops.pico.evaluate import tally
from ops.service import Service
from ops.wire import Job

FAMILIES = ("nginx", "uvicorn", "python")
WAIT_SECONDS = 300.0


def entries() -> list[Entry]:
    """Two real lines of each of some families."""
    chosen = {family: [line for line in load_lines() if line.family == family][:2] for family in FAMILIES}
    return [Entry(f"{line.family}/{line.text}"[:80], line) for lines in chosen.values() for line in lines]


@pytest.mark.slow
def test_real_lines_come_back_as_fields(tmp_path: Path) -> None:
    """Most fields of real lines are right, tokens are billed by the price list, and the stop is clean."""
    work = entries()
    with Service(tmp_path / "data") as service, service.client() as client:
        submitted = [client.submit(body(entry)) for entry in work]
        jobs = [client.wait(job["id"], WAIT_SECONDS) for job in submitted]
        assert [job["state"] for job in jobs] == ["succeeded"] * len(work), service.last_words()
    assert service.status == 0, service.last_words()
    right, fields = tally(
        (e.line, j["result"]["text"]) for e, j in zip(work, jobs, strict=True) if j["result"]
    )["known"]
    assert right >= fields / 2
    for job in jobs:
        check_bill(job)


def check_bill(job: Job) -> None:
    """The tokens were counted, and cost what the list says."""
    usage = job["usage"]
    assert usage["prompt_tokens"] > 512
    assert usage["completion_tokens"] > 0
    costs = load_prices().cost(
        "pico", usage["prompt_tokens"], usage["cached_tokens"], usage["completion_tokens"]
    )
    assert Decimal(job["cost"]["amount"]) == costs.prompt + costs.cached + costs.completion > 0

"""The service keeps what its OpenAPI document promises, whatever is sent."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.app import document
from tests.api.conftest import FakeWorker

BEYOND_SCHEMAS = {"cursor", "run_at", "expires_at", "text"}
"""What may be refused although the document allows it, for it cannot say "in the future" or "with a word"."""

TRIALS = [
    pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
    for path, operations in document()["paths"].items()
    for method, operation in operations.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or {"parameters", "requestBody"} & operation.keys()
]


@pytest.mark.parametrize(("path", "method", "mode"), TRIALS)
def test_operation_keeps_its_promises(
    app: FastAPI, worker: FakeWorker, key: str, path: str, method: str, mode: GenerationMode
) -> None:
    """Good and bad requests alike get a documented status, media type, header and body, and never a 500."""
    worker.publish(context_length=2**30)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})

    @given(schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=15, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    def keeps(case: Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {key}", "Host": "localhost"}
        answer = case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])
        if mode is GenerationMode.POSITIVE and answer.status_code == 422:
            faults = answer.json().get("errors", [])  # none when an Idempotency-Key came twice
            assert {fault["field"].rpartition(".")[2] for fault in faults} <= BEYOND_SCHEMAS

    keeps()

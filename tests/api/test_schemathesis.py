"""The service keeps what its OpenAPI document promises, whatever is sent."""

from __future__ import annotations

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.schemas import BaseSchema

from tests.api.conftest import FakeWorker


@pytest.fixture
def document(app: FastAPI, worker: FakeWorker) -> BaseSchema:
    """The document that the service serves, over a service with a worker."""
    worker.publish()
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})


schema = schemathesis.pytest.from_fixture("document")


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_its_promises(case: Case, key: str) -> None:
    """Good and bad requests alike get a documented status, media type, header and body, and never a 500."""
    case.call_and_validate(headers={"Authorization": f"Bearer {key}", "Host": "localhost"})

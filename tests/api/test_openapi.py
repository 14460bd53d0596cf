"""The OpenAPI document, as people and tools read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from api.app import ROUTERS, document
from api.problems import Kind
from config.settings import Settings
from tests.api.conftest import FakeWorker


def media(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each body and answer of an operation: where, media type, description."""
    for kind, found in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, found
    for status, answer in operation["responses"].items():
        for kind, found in answer.get("content", {}).items():
            yield status, kind, found


OPERATIONS = [
    pytest.param(operation, id=operation["operationId"])
    for operations in document()["paths"].values()
    for operation in operations.values()
]


def test_document_needs_no_key_and_names_its_limits(client: TestClient, settings: Settings) -> None:
    """Anybody may read it; it tells the LLMs and limits of this service."""
    found = client.get("/openapi.json", headers={"Authorization": ""}).json()
    job = found["components"]["schemas"]["JobBody"]["properties"]
    assert job["llm"]["anyOf"][0] == {"type": "string", "enum": ["pico"]}
    assert job["tags"]["maxItems"] == settings.requests.max_tags
    warm = found["components"]["schemas"]["WarmBody"]["properties"]
    assert warm["llm"]["anyOf"][0] == {"type": "string", "enum": ["pico"]}
    assert warm["messages"]["maxItems"] == settings.requests.max_messages
    (wait,) = (p for p in found["paths"]["/v1/jobs/{job_id}"]["get"]["parameters"] if p["name"] == "wait")
    assert wait["schema"]["maximum"] == settings.server.wait_max_seconds


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_body_and_answer_has_an_example(operation: dict[str, Any]) -> None:
    """Each request body and each answer is shown by an example that keeps to its schema."""
    components = document()["components"]
    for where, kind, found in media(operation):
        if where == "200" and kind == "text/plain":
            continue  # Prometheus's own format
        examples = (
            [found["example"]] if "example" in found else [e["value"] for e in found["examples"].values()]
        )
        schema = {**found["schema"], "components": components}
        for example in examples:
            jsonschema_rs.validate(schema, example)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_described(operation: dict[str, Any]) -> None:
    """Each operation says what it does, and each of its parameters too, but for ids in the path."""
    assert operation["description"].endswith(".")
    for parameter in operation.get("parameters", ()):
        assert parameter["in"] == "path" or parameter["schema"].get("description") or parameter["name"] in (
            "agent", "tag", "priority",
        ), parameter["name"]  # fmt: skip


def test_only_open_routes_need_no_key() -> None:
    """Every route under /v1 is marked as needing a key; health and metrics are not."""
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith("/v1/"), path


def test_each_kind_of_problem_is_told_apart() -> None:
    """Every problem has a type of its own, and every one but those of the router is documented somewhere."""
    assert len({kind.type for kind in Kind}) == len(Kind)
    text = str(document())
    for kind in Kind:
        assert kind.type in text or kind is Kind.METHOD_NOT_ALLOWED, kind


def test_every_route_is_in_the_document() -> None:
    """No route is hidden."""
    count = sum(len(module.router.routes) for module in ROUTERS)
    assert count == sum(len(operations) for operations in document()["paths"].values())


def test_examples_of_jobs_are_what_the_service_takes(client: TestClient, worker: FakeWorker) -> None:
    """The examples of bodies can be sent as they stand."""
    worker.publish()
    for path in ("/v1/agents", "/v1/jobs", "/v1/bulk", "/v1/keys"):
        example = document()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, json=example).status_code in (201, 202), path

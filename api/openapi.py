"""The OpenAPI document: what each route takes and gives, with examples and every problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from api.bodies import JSON, JSON_LINES, KEY_HEADER, KEY_LENGTH, KEY_PATTERN
from api.problems import MEDIA_TYPE, Kind
from api.wire.fields import Body, View
from api.wire.problem import ProblemView
from config.settings import Settings

Responses = dict[int | str, dict[str, Any]]

ALWAYS = (401, 421, 422, 500, 503)
"""Problems that any request for something of a tenant may meet."""

HEADERS = {
    "Location": "Where the new thing is.",
    "Retry-After": "Seconds after which asking again makes sense.",
    "Link": "The next page, as RFC 8288 has it.",
    "RateLimit-Policy": 'How many of your jobs may wait: `"queue";q=` and a number.',
    "RateLimit": 'How many more are taken now: `"queue";r=` and a number; '
    "with `;t=` and seconds where they were too many.",
    "ETag": "Send it as If-None-Match to get 304 while nothing has changed.",
}

STORED: Final = ("Location", "Retry-After", "RateLimit-Policy", "RateLimit")
"""Headers of an answer that says that jobs are stored."""

_PROBLEM_HEADERS = {429: STORED[1:], 503: ("Retry-After",)}

_FAULT = {"field": "prompt", "message": "must not contain the NUL character"}
_SCHEMAS = "#/components/schemas/{model}"


def make_router(tag: str) -> APIRouter:
    """A router whose operations are named after their functions."""
    return APIRouter(tags=[tag], generate_unique_id_function=lambda route: route.name)


KEYED: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": KEY_HEADER,
            "in": "header",
            "required": False,
            "schema": {
                "type": "string",
                "description": "Resending the same body under the same key gives the first answer again.",
                "minLength": 1,
                "maxLength": KEY_LENGTH,
                "pattern": KEY_PATTERN,
            },
        }
    ]
}
"""``openapi_extra`` of a route that takes an Idempotency-Key."""


def accepts(
    model: type[BaseModel], *, lines: type[BaseModel] | None = None, required: bool = True
) -> dict[str, Any]:
    """``openapi_extra`` of a route that parses its body itself; ``lines`` is the model of one JSONL line."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": _SCHEMAS.format(model=model.__name__)}}}
    if lines is not None:
        note = {"type": "string", "description": f"One {lines.__name__} in JSON on each line."}
        content |= {kind: {"schema": note, "example": '{"prompt": "Say hello."}\n'} for kind in JSON_LINES}
    return {"requestBody": {"required": required, "content": content}}


def answers(status: int, model: type[BaseModel], description: str, *headers: str) -> Responses:
    """One answer of a route, with the headers it carries."""
    return {status: {"model": model, "description": description, "headers": _described(headers)}}


def _described(headers: Sequence[str]) -> dict[str, Any]:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in headers}


def empty(status: int, description: str) -> Responses:
    """One answer of a route that has no body."""
    return {status: {"description": description}}


def problems(*statuses: int, always: tuple[int, ...] = ALWAYS) -> Responses:
    """The problems that a route may answer with: those named, and those that are always possible."""
    return {status: _problem_response(status) for status in sorted({*statuses, *always})}


def _problem_response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in Kind if kind.status == status]
    examples = {kind.slug: {"value": _example(kind)} for kind in kinds}
    schema = {"$ref": _SCHEMAS.format(model=ProblemView.__name__)}
    return {
        "description": "; or ".join(kind.title for kind in kinds),
        "headers": _described(_PROBLEM_HEADERS.get(status, ())),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _example(kind: Kind) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": f"{kind.title}: what exactly, and what to do about it.",
        "request_id": "req_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    }
    if kind is Kind.VALIDATION:
        example |= {"detail": f"{_FAULT['field']}: {_FAULT['message']}", "errors": [_FAULT]}
    return example


def document(routes: Sequence[BaseRoute], version: str, bodies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """The whole document; ``bodies`` are the models that routes parse themselves."""
    found = get_openapi(
        title="Penstock",
        version=version,
        summary="A durable queue of jobs in front of one batching LLM engine.",
        routes=routes,
    )
    components = found.setdefault("components", {})
    _, extra = models_json_schema(
        [(body, "validation") for body in bodies] + [(ProblemView, "serialization")], ref_template=_SCHEMAS
    )
    components.setdefault("schemas", {}).update(extra["$defs"])
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key such as `pk_0123456789ab_...`."}
    }
    examples = _examples(Body) | _examples(View)
    for name, example in examples.items():
        components["schemas"][name]["examples"] = [example]  # FastAPI leaves nulls out of them
    for path, operations in found["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                operation["security"] = [{"key": []}]
            _show_examples(operation, examples)
            for parameter in operation.get("parameters", ()):
                _never_null(parameter["schema"])
    return found


def _never_null(schema: dict[str, Any]) -> None:
    """A parameter may be left out, but has no way to be null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def _examples(model: type[BaseModel]) -> dict[str, Any]:
    """The first example of each model below one, by name."""
    found: dict[str, Any] = {}
    for child in model.__subclasses__():
        found |= _examples(child)
        extra = child.model_config.get("json_schema_extra")
        if isinstance(extra, dict) and isinstance(shown := extra.get("examples"), list):
            found[child.__name__] = shown[0]
    return found


def _show_examples(operation: dict[str, Any], examples: Mapping[str, Any]) -> None:
    """Put the example of a model beside each body and answer of that model."""
    for carrier in (operation.get("requestBody", {}), *operation["responses"].values()):
        for media in carrier.get("content", {}).values():
            name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in examples and not {"example", "examples"} & media.keys():
                media["example"] = examples[name]


def fit(found: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A copy of the document with the limits and LLMs of these settings."""
    fitted = deepcopy(found)
    most = {"limit": settings.server.page_max, "wait": settings.server.wait_max_seconds}
    for operations in fitted["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in most:
                    parameter["schema"]["maximum"] = most[parameter["name"]]
    schemas, limits = fitted["components"]["schemas"], settings.requests
    schemas["BulkBody"]["properties"]["jobs"]["maxItems"] = settings.bulk.max_jobs
    job = schemas["JobBody"]["properties"]
    job["messages"]["maxItems"] = limits.max_messages
    job["metadata"]["maxProperties"] = limits.max_metadata
    job["tags"]["maxItems"] = limits.max_tags
    job["stop"]["maxItems"] = limits.max_stop
    job["timeout_seconds"]["anyOf"][0]["maximum"] = settings.queue.timeout_max_seconds
    warm = schemas["WarmBody"]["properties"]
    warm["messages"]["maxItems"] = limits.max_messages
    for body in (job, warm):
        body["llm"]["anyOf"][0] = {"type": "string", "enum": sorted(settings.llms)}
    return fitted


def queries(found: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, bool]]:
    """Query parameters, and whether each may come more than once, by path template and method."""
    return {
        (path, method.upper()): {
            parameter["name"]: parameter["schema"].get("type") == "array"
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        }
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
    }

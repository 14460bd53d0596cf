"""Kinds of values that several bodies share."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

NO_NUL = r"^[^\x00]*$"
"""A text without NUL, which PostgreSQL cannot store."""

AGENT = r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*$"
"""Letters, digits and ``. _ : -``, in parts that a slash may join."""

BULK_ID = r"^bulk_[0-9a-f]{32}$"
CURSOR = r"^[A-Za-z0-9_-]{1,512}$"


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _parse_time(value: object) -> datetime:
    """Read RFC 3339 only: pydantic by itself takes ``"5"`` for seconds since 1970."""
    try:
        if isinstance(value, str) and _RFC3339.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise PydanticCustomError(
        "rfc3339", "write an existing RFC 3339 time with its zone, such as 2026-11-20T08:30:00Z"
    )


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = Annotated[str, StringConstraints(min_length=1, pattern=NO_NUL)]
"""At least one character, none of them NUL."""

Short = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]
Value = Annotated[str, StringConstraints(max_length=512, pattern=NO_NUL)]
AgentName = Annotated[str, StringConstraints(max_length=128, pattern=AGENT)]
Time = Annotated[AwareDatetime, BeforeValidator(_parse_time)]
"""RFC 3339 with a zone, turned into UTC."""

WHOLE = BeforeValidator(_whole)
"""Behind the limits of an integer: takes it also when written ``5.0``, as JSON Schema does."""

MOST_ITEMS = 100_000
"""Of any list, before anybody looks at the settings: an end to what a body may become in memory."""

MOST_FIELDS = 100
"""Of any object with fixed names, for each unknown one is a fault."""

Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(max_length=MOST_ITEMS, fail_fast=True)]
"""A list of which the first wrong entry is told: a million may be."""

Metadata = Annotated[
    dict[Short, Value],
    Field(fail_fast=True),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": 64, "pattern": NO_NUL},
            "additionalProperties": {"type": "string", "maxLength": 512, "pattern": NO_NUL},
        }
    ),
]

Moment = Annotated[datetime, Field(description="RFC 3339, UTC.")]
Amount = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$"), Field(description="Money as a decimal string.")
]


class Body(BaseModel):
    """What a client sends: unknown names and wrong types are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def has_few_fields(cls, value: object) -> object:
        """Refuse an object with far too many names before a fault is made of each."""
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            message = "has {count} fields: leave out those that are not known"
            raise PydanticCustomError("fields", message, {"count": len(value)})
        return value


class View(BaseModel):
    """What a client is shown."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


def shown(example: dict[str, Any]) -> ConfigDict:
    """The configuration of a model that the OpenAPI document shows by an example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


def listed(*examples: dict[str, Any], **more: Any) -> ConfigDict:
    """The same for a list of things."""
    return shown({"object": "list", "data": list(examples), **more})


class CheckView(View):
    """One part of the service."""

    ok: bool
    detail: str

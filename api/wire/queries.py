"""Queries of lists."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.pages import USUAL
from api.wire.fields import BULK_ID, CURSOR, AgentName, Listed, Short, Time, Value
from api.wire.job import PriorityName, StateName
from models.words import Terms

Limit = Annotated[
    int, Field(ge=1, le=1_000, description="Rows of a page; the service has a limit of its own.")
]
Cursor = Annotated[str, Field(pattern=CURSOR, description="The `next_cursor` of the page before.")]


class Query(BaseModel):
    """Parameters of a list; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = USUAL
    cursor: Cursor | None = None


def _has_a_word(text: str) -> str:
    Terms.of(text)
    return text


class JobFilters(BaseModel):
    """Which jobs are meant; what is left out does not narrow."""

    model_config = ConfigDict(extra="forbid")

    state: Annotated[Listed[StateName], Field(description="Any of these states.")] = []
    agent: AgentName | None = None
    llm: Annotated[Short | None, Field(description="An LLM's alias.")] = None
    tag: Short | None = None
    priority: PriorityName | None = None
    bulk: Annotated[
        Annotated[str, StringConstraints(pattern=BULK_ID)] | None, Field(description="Id of a bulk.")
    ] = None
    created_after: Annotated[Time | None, Field(description="Submitted then or later.")] = None
    created_before: Annotated[Time | None, Field(description="Submitted earlier.")] = None
    text: Annotated[
        Annotated[Value, Field(min_length=1), AfterValidator(_has_a_word)] | None,
        Field(
            description="All these words, the last of which may go on, are in the request or the error;"
            " or an id, at least the first 12 of its digits."
        ),
    ] = None


class JobQuery(JobFilters, Query):
    """Which jobs to list, and which page of the list."""

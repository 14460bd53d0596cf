"""Agents and keys as clients send and see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from api.wire.fields import NO_NUL, AgentName, Body, Listed, Moment, Short, View, listed, shown
from api.wire.job_body import MessageBody

AGENT_EXAMPLE: dict[str, Any] = {
    "object": "agent",
    "name": "log-reader",
    "created_at": "2026-11-20T08:00:00Z",
    "last_used_at": "2026-11-20T08:30:00Z",
    "waiting": 1,
    "running": 1,
    "cache": {
        "tokens": 2048,
        "where": "memory",
        "llm": "pico",
        "at": "2026-11-20T08:29:57Z",
        "hits": 12,
        "hit_tokens": 18432,
        "prompt_tokens": 20480,
    },
}
KEY_EXAMPLE: dict[str, Any] = {
    "id": "0123456789ab",
    "object": "key",
    "name": "laptop",
    "created_at": "2026-11-20T08:00:00Z",
    "revoked_at": None,
}


class AgentBody(Body):
    """An agent to be made before its first job."""

    model_config = shown({"name": "log-reader"})

    name: Annotated[AgentName, Field(description="Letters, digits and `. _ : -`, in parts joined by `/`.")]


class WarmBody(Body):
    """What is to be in memory before an agent's next job comes."""

    model_config = shown(
        {"messages": [{"role": "system", "content": "Answer with the fields of the line as JSON."}]}
    )

    llm: Annotated[
        Short | None,
        Field(description="Alias or id of an LLM; that of the agent's cache, or the default, if left out."),
    ] = None
    messages: Annotated[
        Listed[MessageBody],
        Field(
            min_length=1,
            description="How the conversation will begin, to be computed ahead; if left out, the agent's own"
            " cache is brought back to memory.",
        ),
    ] = Field(default_factory=list)


class CacheView(View):
    """What is held of an agent's conversation, and what it has saved so far."""

    tokens: Annotated[int, Field(description="Of the agent's last conversation; 0 where nothing is held.")]
    where: Literal["memory", "disk", "none"]
    llm: Annotated[str | None, Field(description="The LLM that made it; null if there was none yet.")]
    at: Annotated[Moment | None, Field(description="When a worker said so.")]
    hits: Annotated[int, Field(description="Jobs that found something of their prompt in a cache.")]
    hit_tokens: Annotated[int, Field(description="Tokens of prompts that those found.")]
    prompt_tokens: Annotated[int, Field(description="Tokens of the prompts of all jobs that ended.")]


class AgentView(View):
    """A named identity whose jobs run one at a time, in order."""

    model_config = shown(AGENT_EXAMPLE)

    object: Literal["agent"] = "agent"
    name: str
    created_at: Moment
    last_used_at: Moment
    waiting: Annotated[int, Field(description="Jobs scheduled or queued; 1,000 are counted at most.")]
    running: Annotated[int, Field(description="Jobs running: one at the most.")]
    cache: CacheView


class AgentPage(View):
    """Agents by name, and where the next page begins."""

    model_config = listed(AGENT_EXAMPLE, next_cursor=None)

    object: Literal["list"] = "list"
    data: list[AgentView]
    next_cursor: str | None


class KeyBody(Body):
    """A key to be made."""

    model_config = shown({"name": "laptop"})

    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=200, pattern=NO_NUL),
        Field(description="Whose it is, or what for."),
    ]


class KeyView(View):
    """A key, without its secret."""

    model_config = shown(KEY_EXAMPLE)

    id: str
    object: Literal["key"] = "key"
    name: str
    created_at: Moment
    revoked_at: Moment | None


class NewKeyView(KeyView):
    """A key that was just made."""

    model_config = shown(KEY_EXAMPLE | {"key": "pk_0123456789ab_…"})

    key: Annotated[str, Field(description="Shown this once.")]


class KeyList(View):
    """All keys of a tenant, oldest first."""

    model_config = listed(KEY_EXAMPLE)

    object: Literal["list"] = "list"
    data: list[KeyView]

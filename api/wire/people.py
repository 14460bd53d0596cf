"""Agents and keys as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from api.wire.fields import NO_NUL, Body, Moment, View, listed, shown

AGENT_EXAMPLE: dict[str, Any] = {
    "object": "agent",
    "name": "log-reader",
    "created_at": "2026-11-20T08:00:00Z",
    "last_used_at": "2026-11-20T08:30:00Z",
    "waiting": 1,
    "running": 1,
}
KEY_EXAMPLE: dict[str, Any] = {
    "id": "0123456789ab",
    "object": "key",
    "name": "laptop",
    "created_at": "2026-11-20T08:00:00Z",
    "revoked_at": None,
}


class AgentView(View):
    """A named identity whose jobs run one at a time, in order."""

    model_config = shown(AGENT_EXAMPLE)

    object: Literal["agent"] = "agent"
    name: str
    created_at: Moment
    last_used_at: Moment
    waiting: Annotated[int, Field(description="Jobs scheduled or queued; 1,000 are counted at most.")]
    running: Annotated[int, Field(description="Jobs running: one at the most.")]


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

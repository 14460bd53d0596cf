"""Commands to workers as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.wire.fields import Moment, View, listed, shown
from models.commands import Command

EXAMPLE: dict[str, Any] = {
    "id": "cmd_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "object": "command",
    "kind": "agent.save",
    "state": "done",
    "llm": "pico",
    "agent": "log-reader",
    "worker": "worker_019b1c3a5f0a7c1e9d8b1a2c3d4e5f60",
    "created_at": "2026-11-20T08:30:00.120000Z",
    "started_at": "2026-11-20T08:30:00.161000Z",
    "finished_at": "2026-11-20T08:30:00.190000Z",
    "error": None,
    "result": {"tokens": 2048},
}


class CommandView(View):
    """Something that a worker is to do beside jobs."""

    model_config = shown(EXAMPLE)

    id: str
    object: Literal["command"] = "command"
    kind: Annotated[
        str,
        Field(description="`agent.save`, `agent.warm`, `agent.forget`, `llm.load` or `llm.unload`."),
    ]
    state: Annotated[
        Literal["waiting", "running", "done", "failed"],
        Field(description="It waits for a worker that serves the LLM; `llm.*` for one that can load it."),
    ]
    llm: str
    agent: Annotated[str | None, Field(description="Whose cache it is about; null for `llm.*`.")]
    worker: Annotated[str | None, Field(description="Who does it, or did.")]
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    error: Annotated[str | None, Field(description="Why it failed.")]
    result: Annotated[dict[str, Any] | None, Field(description="What the worker says of it.")]


class CommandPage(View):
    """Commands, newest first, and where the next page begins."""

    model_config = listed(EXAMPLE, next_cursor=None)

    object: Literal["list"] = "list"
    data: list[CommandView]
    next_cursor: str | None


def command_view(command: Command) -> CommandView:
    """A command as clients see it."""
    return CommandView(
        id=command.id,
        kind=command.kind,
        state=command.state,  # type: ignore[arg-type]  # pydantic checks it
        llm=command.llm,
        agent=command.agent,
        worker=command.taken_by,
        created_at=command.created_at,
        started_at=command.taken_at,
        finished_at=command.ended_at,
        error=command.error,
        result=command.result,
    )

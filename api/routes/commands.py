"""Commands to workers: list and look. What issues them are the routes of agents and LLMs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.door import Desk, Seated
from api.openapi import answers, empty, make_router, problems
from api.views import ask_again, json_answer, tagged_answer
from api.waiting import Wait, seen
from api.wire import queries
from api.wire.commands import CommandPage, CommandView, command_view
from models import commands

router = make_router("commands")


@router.get("/v1/commands", responses=answers(200, CommandPage, "A page of commands.", "Link") | problems())
def list_commands(desk: Seated, request: Request, query: Annotated[queries.Query, Query()]) -> Response:
    """List your commands, newest first; those that ended more than a day ago are gone."""
    limit = pages.rows(query.limit, desk.settings.server.page_max)
    before = pages.key_of(query.cursor) if query.cursor else None
    with desk.database.read() as session:
        found = commands.listed(session, desk.caller.tenant_id, before, limit + 1)
    listed, next_cursor = pages.cut(found, limit, lambda command: command.id)
    view = CommandPage(data=[command_view(command) for command in listed], next_cursor=next_cursor)
    return json_answer(view, 200, pages.link(request, next_cursor))


@router.get(
    "/v1/commands/{command_id}",
    responses=answers(200, CommandView, "The command as it is now.", "ETag", "Retry-After")
    | empty(304, "The client has it already, by If-None-Match.")
    | problems(404),
)
async def get_command(desk: Seated, request: Request, command_id: str, wait: Wait = 0) -> Response:
    """Look at a command; with `wait`, as soon as it has ended or the seconds are over."""
    view = await seen(desk, request, command_id, wait, _look, lambda view: view.finished_at is not None)
    return tagged_answer(request, view, ask_again(view.finished_at is not None, None))


def _look(desk: Desk, command_id: str) -> CommandView:
    with desk.database.read() as session:
        return command_view(desk.command(session, command_id))

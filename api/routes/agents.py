"""Agents: list and look."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.door import Seated
from api.openapi import answers, make_router, problems
from api.problems import not_found
from api.views import json_answer
from api.wire import queries
from api.wire.fields import AGENT
from api.wire.people import AgentPage, AgentView
from models import agents
from models.agents import Activity, Agent

router = make_router("agents")


@router.get("/v1/agents", responses=answers(200, AgentPage, "A page of agents.", "Link") | problems())
def list_agents(desk: Seated, request: Request, query: Annotated[queries.Query, Query()]) -> Response:
    """List your agents by name."""
    limit = pages.rows(query.limit, desk.settings.server.page_max)
    after = pages.key_of(query.cursor) if query.cursor else ""
    with desk.database.read() as session:
        found = agents.listed(session, desk.caller.tenant_id, after, limit + 1)
        shown, next_cursor = pages.cut(found, limit, lambda agent: agent.name)
        busy = agents.activity(session, desk.caller.tenant_id, [agent.name for agent in shown])
    views = [_view(agent, busy.get(agent.name, Activity())) for agent in shown]
    return json_answer(AgentPage(data=views, next_cursor=next_cursor), 200, pages.link(request, next_cursor))


@router.get("/v1/agents/{name:path}", responses=answers(200, AgentView, "The agent.") | problems(404))
def get_agent(desk: Seated, name: str) -> Response:
    """Look at an agent."""
    if not re.fullmatch(AGENT, name):
        raise not_found("agent")
    with desk.database.read() as session:
        agent = agents.find(session, desk.caller.tenant_id, name)
        if agent is None:
            raise not_found("agent")
        busy = agents.activity(session, desk.caller.tenant_id, [name])
    return json_answer(_view(agent, busy.get(name, Activity())))


def _view(agent: Agent, busy: Activity) -> AgentView:
    return AgentView(
        name=agent.name,
        created_at=agent.created_at,
        last_used_at=agent.last_used_at,
        waiting=busy.waiting,
        running=busy.running,
    )

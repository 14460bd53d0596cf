"""Agents: make, list, look, delete; save their caches and warm them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from api import pages
from api.admission import Draft, unknown_llm
from api.bodies import JsonBody, MaybeJson, NoBody, no_body
from api.door import Desk, Seated
from api.explain import parse
from api.openapi import accepts, answers, empty, make_router, problems
from api.problems import Kind, Problem, invalid, not_found
from api.views import json_answer
from api.wire import queries
from api.wire.commands import CommandView, command_view
from api.wire.fields import AGENT
from api.wire.job_body import JobBody
from api.wire.people import AgentBody, AgentPage, AgentView, CacheView, WarmBody
from models import agents, audit, caches, commands, tenants, workers
from models.agents import Activity, Agent
from models.base import utcnow
from models.commands import MESSAGES
from models.hooks import Session

router = make_router("agents")


@router.get("/v1/agents", responses=answers(200, AgentPage, "A page of agents.", "Link") | problems())
def list_agents(desk: Seated, request: Request, query: Annotated[queries.Query, Query()]) -> Response:
    """List your agents by name."""
    limit = pages.rows(query.limit, desk.settings.server.page_max)
    after = pages.key_of(query.cursor) if query.cursor else ""
    with desk.database.read() as session:
        found = agents.listed(session, desk.caller.tenant_id, after, limit + 1)
        shown, next_cursor = pages.cut(found, limit, lambda agent: agent.name)
        views = _views(session, shown)
    return json_answer(AgentPage(data=views, next_cursor=next_cursor), 200, pages.link(request, next_cursor))


@router.post(
    "/v1/agents",
    status_code=201,
    openapi_extra=accepts(AgentBody),
    responses=answers(201, AgentView, "Made.", "Location")
    | answers(200, AgentView, "It was there already, and is as it was.", "Location")
    | problems(400, 413, 415),
)
def create_agent(desk: Seated, body: JsonBody) -> Response:
    """Make an agent; a job that names a new one makes it too."""
    name, caller = parse(AgentBody, body).name, desk.caller
    with desk.database.write() as session:
        made = agents.create(session, caller.tenant_id, name, caller.key_id, utcnow())
        (view,) = _views(session, [_agent(desk, session, name)])
    return json_answer(view, 201 if made else 200, {"Location": f"/v1/agents/{name}"})


_ISSUED = answers(202, CommandView, "A worker will do it; look at the command for the end.", "Location")


@router.post("/v1/agents/{name:path}/save", status_code=202, responses=_ISSUED | problems(404, 413, 429))
def save_agent(desk: Seated, name: str, body: NoBody) -> Response:
    """Write an agent's cache to disk now."""
    no_body(body)
    return _issue(desk, name, commands.Kind.SAVE, None, {})


@router.post(
    "/v1/agents/{name:path}/warm",
    status_code=202,
    openapi_extra=accepts(WarmBody, required=False),
    responses=_ISSUED | problems(400, 404, 413, 415, 429),
)
def warm_agent(desk: Seated, name: str, body: MaybeJson) -> Response:
    """Have in memory what an agent's next job will begin with: its cache, or a conversation to come."""
    wanted = parse(WarmBody, body)
    with desk.database.read() as session:
        known = _llm(desk, _agent(desk, session, name))
    if (alias := desk.door.llms.resolve(wanted.llm or known)) is None:
        raise invalid([unknown_llm(desk, wanted.llm)])
    messages: list[dict[str, Any]] = []
    if wanted.messages:
        draft = Draft(desk, JobBody(messages=wanted.messages, llm=alias))
        if faults := draft.faults(utcnow()):
            raise invalid(faults)
        messages = [message.model_dump(mode="json") for message in draft.messages]
    return _issue(desk, name, commands.Kind.WARM, alias, {MESSAGES: messages})


def _issue(
    desk: Desk, name: str, kind: commands.Kind, alias: str | None, more: Mapping[str, Any]
) -> Response:
    """Tell the worker that holds an agent's cache to do something, or any that serves its LLM."""
    caller, now = desk.caller, utcnow()
    with desk.database.write() as session:
        agent = _agent(desk, session, name)
        desk.check_room(session)
        llm = alias or _llm(desk, agent)
        args = {**_about(session, caller.tenant_id, name), **more}
        worker_id = caches.keeper(session, agent, llm)
        command = commands.issue(session, caller.tenant_id, llm, kind, args, now, worker_id)
        act = audit.row(caller.tenant_id, caller.key_id, kind, agent.id, now, name=name, command=command.id)
        audit.record(session, [act])
    return json_answer(command_view(command), 202, {"Location": f"/v1/commands/{command.id}"})


def _llm(desk: Desk, agent: Agent) -> str:
    """The LLM of an agent's cache, as long as it is configured, else the default."""
    return agent.held_llm if agent.held_llm in desk.settings.llms else desk.settings.default_llm


def _about(session: Session, tenant_id: str, name: str) -> dict[str, Any]:
    """What every command on an agent's cache says."""
    return {"owner": agents.owner(tenant_id, name), "salt": tenants.salt_of(session, tenant_id)}


@router.get("/v1/agents/{name:path}", responses=answers(200, AgentView, "The agent.") | problems(404))
def get_agent(desk: Seated, name: str) -> Response:
    """Look at an agent."""
    with desk.database.read() as session:
        (view,) = _views(session, [_agent(desk, session, name)])
    return json_answer(view)


@router.delete(
    "/v1/agents/{name:path}",
    status_code=204,
    responses=empty(204, "Gone, and its caches go; its jobs and their bill stay.") | problems(404, 409),
)
def delete_agent(desk: Seated, name: str) -> Response:
    """Delete an agent of which no job waits or runs; all workers forget its caches, on disk too."""
    caller, now = desk.caller, utcnow()
    with desk.database.write() as session:
        posts = workers.posts(session, desk.settings.llms)  # first: who declares one lost locks it first
        agent = _agent(desk, session, name, lock=True)
        if agents.is_busy(session, caller.tenant_id, name):
            raise Problem(Kind.NOT_ENDED, f"jobs of {name} wait or run: cancel them, or wait for their end")
        agents.remove(session, agent, caller.key_id, now)
        about = _about(session, caller.tenant_id, name)
        for llm, worker_id in posts:
            commands.issue(session, caller.tenant_id, llm, commands.Kind.FORGET, about, now, worker_id)
    return Response(None, 204)


def _agent(desk: Desk, session: Session, name: str, *, lock: bool = False) -> Agent:
    """An agent of the caller's tenant.

    Raises:
        Problem: 404.
    """
    known = re.fullmatch(AGENT, name) is not None
    agent = agents.find(session, desk.caller.tenant_id, name, lock=lock) if known else None
    if agent is None:
        raise not_found("agent")
    return agent


def _views(session: Session, found: list[Agent]) -> list[AgentView]:
    """Agents of one tenant with what they are at."""
    if not found:
        return []
    busy = agents.activity(session, found[0].tenant_id, [agent.name for agent in found])
    lost = caches.lost(session, found)
    return [_view(agent, busy.get(agent.name, Activity()), lost=agent.id in lost) for agent in found]


def _view(agent: Agent, busy: Activity, *, lost: bool) -> AgentView:
    cache = CacheView(
        tokens=0 if lost else agent.held_tokens,
        where="none" if lost else agent.held_where,  # type: ignore[arg-type]  # pydantic checks it
        llm=agent.held_llm,
        at=agent.held_at,
        hits=agent.hits,
        hit_tokens=agent.hit_tokens,
        prompt_tokens=agent.prompt_tokens,
    )
    return AgentView(
        name=agent.name,
        created_at=agent.created_at,
        last_used_at=agent.last_used_at,
        waiting=busy.waiting,
        running=busy.running,
        cache=cache,
    )

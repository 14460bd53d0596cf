"""Queues: how deep they are; pause, drain and resume one, change its window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from starlette.responses import Response

from api.bodies import JsonBody, NoBody, no_body
from api.door import Desk, Seated
from api.explain import parse
from api.openapi import accepts, answers, make_router, problems
from api.views import json_answer
from api.wire.queues import ModeView, QueueChange, QueueList, QueueView, WholeQueueView
from models import queues
from models.base import utcnow
from models.hooks import Session
from models.queues import Depth
from models.states import Priority
from models.tenants import Mode
from workers.broker import wake

router = make_router("queues")


@router.get("/v1/queues", responses=answers(200, QueueList, "All queues that hold jobs.") | problems())
def list_queues(desk: Seated) -> Response:
    """List your jobs that have not ended, by LLM and priority."""
    with desk.database.read() as session:
        found = _depths(desk, session)
        modes = queues.modes(session, {*desk.settings.llms, *(depth.llm for depth in found)})
    now = utcnow()
    data = [_view(depth, modes[depth.llm], now) for depth in found]
    known = [ModeView(llm=llm, mode=modes[llm].value) for llm in desk.settings.llms]
    return json_answer(QueueList(data=data, modes=known))


@router.get(
    "/v1/queues/{llm:path}", responses=answers(200, WholeQueueView, "The queue as it is now.") | problems(404)
)
def get_queue(desk: Seated, llm: str) -> Response:
    """Look at the queue of one LLM."""
    desk.check_llm(llm)
    with desk.database.read() as session:
        return json_answer(_whole(desk, session, llm))


@router.patch(
    "/v1/queues/{llm:path}",
    openapi_extra=accepts(QueueChange),
    responses=answers(200, WholeQueueView, "The queue as it is now.") | problems(400, 404, 413, 415),
)
def change_queue(desk: Seated, llm: str, body: JsonBody) -> Response:
    """Change how long the workers of an LLM gather arrivals; they follow within a second."""
    wanted, caller = parse(QueueChange, body), desk.caller
    desk.check_llm(llm)
    with desk.database.write() as session:
        queues.set_window(session, llm, wanted.window_ms, caller.tenant_id, caller.key_id, utcnow())
        view = _whole(desk, session, llm)
    return json_answer(view)


_STEERED = answers(200, WholeQueueView, "So it is, now or since before.") | problems(404, 413)


@router.post("/v1/queues/{llm:path}/pause", responses=_STEERED)
def pause_queue(desk: Seated, llm: str, body: NoBody) -> Response:
    """Begin no more jobs of an LLM: they are taken in and wait, running ones go on to their end."""
    return _steer(desk, llm, body, Mode.PAUSED)


@router.post("/v1/queues/{llm:path}/drain", responses=_STEERED)
def drain_queue(desk: Seated, llm: str, body: NoBody) -> Response:
    """Take no more jobs of an LLM in, and work off those that wait."""
    return _steer(desk, llm, body, Mode.DRAINING)


@router.post("/v1/queues/{llm:path}/resume", responses=_STEERED)
def resume_queue(desk: Seated, llm: str, body: NoBody) -> Response:
    """End a pause or a drain."""
    return _steer(desk, llm, body, Mode.OPEN)


def _steer(desk: Desk, llm: str, body: bytes, mode: Mode) -> Response:
    no_body(body)
    desk.check_llm(llm)
    with desk.database.write() as session:
        queues.steer(session, llm, mode, desk.caller.tenant_id, desk.caller.key_id, utcnow())
        first = None if mode is Mode.PAUSED else queues.first_claimable(session, llm)
        if first is not None:  # also where nothing changed: whoever asks twice may have lost a hint
            wake(desk.door.broker, session, llm, [first[0]])
        view = _whole(desk, session, llm)
    return json_answer(view)


def _depths(desk: Desk, session: Session) -> list[Depth]:
    return queues.depths(session, desk.caller.tenant_id, desk.door.offsets)


def _whole(desk: Desk, session: Session, llm: str) -> WholeQueueView:
    mode = queues.modes(session, [llm])[llm]
    mine: Sequence[Depth] = [depth for depth in _depths(desk, session) if depth.llm == llm]
    window, now = queues.window(session, llm), utcnow()
    return WholeQueueView(
        llm=llm,
        mode=mode.value,
        idle=queues.unfinished(session, llm) == 0,
        window_ms=desk.settings.engine.window_ms if window is None else window,
        queued=sum(depth.queued for depth in mine),
        scheduled=sum(depth.scheduled for depth in mine),
        running=sum(depth.running for depth in mine),
        priorities=[_view(depth, mode, now) for depth in mine],
    )


def _view(depth: Depth, mode: Mode, now: datetime) -> QueueView:
    return QueueView(
        llm=depth.llm,
        mode=mode.value,
        priority=Priority(depth.priority).name.lower(),  # type: ignore[arg-type]  # pydantic checks it
        queued=depth.queued,
        scheduled=depth.scheduled,
        running=depth.running,
        oldest_seconds=None if depth.oldest is None else max(0.0, (now - depth.oldest).total_seconds()),
    )

"""What an agent's last job left behind: the conversation that its next one most likely goes on with."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.job_rows import Job, Payload, Result
from models.requests import CompletionRequest, Message, TextPart
from models.states import State


def latest(session: Session, tenant_id: str, agent: str) -> tuple[Message, ...]:
    """The messages of the agent's last succeeded job and its reply; none if it has no such job any more."""
    query = (
        select(Payload.request, Result.text)
        .join(Job, Job.id == Payload.job_id)
        .join(Result, Result.job_id == Job.id)
        .where(Job.tenant_id == tenant_id, Job.agent == agent, Job.finished_at.is_not(None))
        .where(Job.state == State.SUCCEEDED)
        .order_by(Job.seq.desc())
        .limit(1)
    )
    found = session.execute(query).first()
    if found is None:
        return ()
    asked = CompletionRequest.model_validate_json(found.request).messages
    return (*asked, Message(role="assistant", content=(TextPart(text=found.text),)))

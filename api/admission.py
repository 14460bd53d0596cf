"""From a body that can be read to a job that can be stored: what the settings and the LLM allow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from api.door import Desk
from api.wire.job_body import JobBody, MessageBody
from api.wire.problem import Fault
from models.requests import CompletionRequest, Message, Sampling, TextPart
from models.states import Priority
from models.submission import NewJob
from models.workers import Llm

PAST = timedelta(seconds=5)
"""How far a clock may be behind ours before a time counts as past."""


class Draft:
    """A body on its way to a job. Call :meth:`faults` first; :meth:`job` only if there are none."""

    def __init__(self, desk: Desk, body: JobBody) -> None:
        self._desk = desk
        self._body = body
        self._messages = _messages(body)
        self._alias = desk.door.llms.resolve(body.llm) or ""
        self._max_tokens = body.max_tokens or desk.settings.requests.default_max_tokens

    def faults(self, now: datetime) -> list[Fault]:
        """Everything that keeps the job from being stored, beyond what the body's types say."""
        return [
            *self._input_faults(),
            *_time_faults(self._body, now),
            *self._timeout_faults(),
            *self._count_faults(),
            *self._llm_faults(),
        ]

    def _input_faults(self) -> Iterator[Fault]:
        body = self._body
        if bool(body.messages) != bool(body.prompt):
            return
        given = "both were given" if body.messages else "neither was given"
        for field in ("messages", "prompt"):
            yield Fault(field=field, message=f"give exactly one of messages and prompt; {given}")

    def _timeout_faults(self) -> Iterator[Fault]:
        asked, most = self._body.timeout_seconds, self._desk.settings.queue.timeout_max_seconds
        if asked is not None and asked > most:
            message = f"{asked:g} s are more than an attempt may take here: ask for {most:g} or less"
            yield Fault(field="timeout_seconds", message=message)

    def _count_faults(self) -> Iterator[Fault]:
        body, limits = self._body, self._desk.settings.requests
        for field, count, most in (
            ("messages", len(body.messages), limits.max_messages),
            ("metadata", len(body.metadata), limits.max_metadata),
            ("tags", len(body.tags), limits.max_tags),
            ("stop", len(body.stop), limits.max_stop),
        ):
            if count > most:
                yield Fault(field=field, message=f"has {count} entries; at most {most} are taken")

    def _llm_faults(self) -> Iterator[Fault]:
        book = self._desk.door.llms
        if not self._alias:
            yield unknown_llm(self._desk, self._body.llm)
        elif (llm := book.row(self._alias)) is not None:  # else the worker will decide
            yield from self._length_faults(llm)

    def _length_faults(self, llm: Llm) -> Iterator[Fault]:
        """Does prompt and completion fit? Where no max_tokens was asked, take what room there is."""
        asked, room = self._body.max_tokens, llm.context_length
        if asked is not None and asked >= room:
            yield Fault(
                field="max_tokens",
                message=f"{asked} leave no room for a prompt in the {room} tokens of {llm.alias}",
            )
            return
        prompt = self._desk.door.llms.measure(llm, self._messages, self._max_tokens)
        if prompt is None or prompt.leaves(self._max_tokens, room):
            return
        if asked is None and prompt.leaves(1, room):
            self._max_tokens = room - prompt.tokens
            return
        yield Fault(
            field="messages" if self._body.messages else "prompt",
            message=f"{prompt} tokens and {asked or 1} to generate are more than the {room} that"
            f" {llm.alias} takes: shorten the prompt" + (" or lower max_tokens" if asked else ""),
        )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation as it will be stored."""
        return self._messages

    def job(self, bulk_id: str | None = None) -> NewJob:
        """The job that the body asks for."""
        body, settings = self._body, self._desk.settings
        request = CompletionRequest(messages=self._messages, sampling=self._sampling())
        return NewJob(
            tenant_id=self._desk.caller.tenant_id,
            llm=self._alias,
            request=request.model_dump_json(),
            estimated_tokens=request.estimated_tokens,
            timeout_seconds=body.timeout_seconds or settings.queue.timeout_seconds,
            max_attempts=body.max_attempts or settings.queue.max_attempts,
            priority=Priority[body.priority.upper()],
            agent=body.agent,
            run_at=body.run_at,
            expires_at=body.expires_at,
            bulk_id=bulk_id,
            metadata=body.metadata,
            tags=tuple(dict.fromkeys(body.tags)),
        )

    def _sampling(self) -> Sampling:
        body = self._body
        return Sampling(
            max_tokens=self._max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            min_p=body.min_p,
            seed=body.seed,
            stop=tuple(body.stop),
        )


def unknown_llm(desk: Desk, name: str | None) -> Fault:
    """What is wrong with an LLM that is not configured, and which ones are."""
    name = name or desk.settings.default_llm
    near = ", ".join(desk.door.llms.near(name))
    return Fault(field="llm", message=f"{name[:80]!r} is not configured; there is: {near}")


def _time_faults(body: JobBody, now: datetime) -> Iterator[Fault]:
    if body.run_at is not None and body.run_at < now - PAST:
        yield Fault(field="run_at", message="lies in the past: leave it out to run at once")
    if body.expires_at is not None and body.expires_at <= now:
        yield Fault(field="expires_at", message="lies in the past: the job would never run")
    elif body.expires_at is not None and body.run_at is not None and body.expires_at <= body.run_at:
        yield Fault(field="expires_at", message="must be later than run_at")


def _messages(body: JobBody) -> tuple[Message, ...]:
    if body.prompt:
        return (Message(role="user", content=(TextPart(text=body.prompt),)),)
    return tuple(Message(role=turn.role, content=_parts(turn)) for turn in body.messages)


def _parts(turn: MessageBody) -> tuple[TextPart, ...]:
    if isinstance(turn.content, str):
        return (TextPart(text=turn.content),)
    return tuple(TextPart(text=part.text) for part in turn.content)

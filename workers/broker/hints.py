"""Hints: messages that say that some jobs may be taken. The rows are the truth.

A lost hint costs time, never a job; a doubled one costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import dramatiq
from dramatiq import Broker, Message

from config import telemetry
from models import jobs
from models.hooks import Session, after_commit
from workers.broker.sql import SqlBroker

ACTOR = "drain"

MOST_IDS = 100
"""Ids in one hint; whoever is hinted looks at the rows anyway."""

log = logging.getLogger(__name__)


def hint_queue(llm: str) -> str:
    """The queue of hints for one LLM: each worker listens to that of the LLM it serves, and to no other.

    Dramatiq takes letters, digits, ``.``, ``_`` and ``-``; any other sign of an alias is written as its code.
    """
    return "hints." + "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in ".-") else f"_{ord(sign):x}_" for sign in llm
    )


def declare_drain(broker: Broker, llms: Sequence[str]) -> None:
    """Make the one inference actor known to a broker, and the queues in which hints for it travel."""
    dramatiq.actor(broker=broker, queue_name=hint_queue(llms[0]), actor_name=ACTOR)(_sender_only)
    for llm in llms[1:]:
        broker.declare_queue(hint_queue(llm))


def _sender_only(llm: str, ids: list[str]) -> NoReturn:
    raise RuntimeError(f"a hint for {llm} ({len(ids)} jobs) came to a process that only sends them")


def register_drain(broker: Broker, handler: Callable[[list[str]], None]) -> None:
    """Have ``handler`` called with the ids of every hint that this process receives.

    It is called from a thread of the Dramatiq worker and should only ring a
    bell: the hint is acknowledged when it returns, and also when it raises.
    """

    def drain(_llm: str, ids: list[str]) -> None:
        telemetry.hints.labels("received").inc()
        handler(ids)

    broker.get_actor(ACTOR).fn = drain


def wake(
    broker: Broker, session: Session, llm: str, ids: Sequence[str], *, delay_ms: int | None = None
) -> None:
    """Hint that jobs of one LLM may be taken, once the session's transaction is committed.

    The embedded broker writes the hint in that transaction; any other sends it
    right after the commit, and a failure to send is logged, counted and
    forgotten: the sweeper hints again. A rollback sends nothing.
    """
    if not ids:
        return
    message = broker.get_actor(ACTOR).message(llm, list(ids[:MOST_IDS])).copy(queue_name=hint_queue(llm))
    if isinstance(broker, SqlBroker):
        broker.enqueue(message, delay=delay_ms, session=session)
        after_commit(session, telemetry.hints.labels("sent").inc)
    else:
        after_commit(session, partial(_send, broker, message, delay_ms))


def wake_all(broker: Broker, session: Session, ids: Sequence[str]) -> None:
    """:func:`wake` for jobs of whatever LLMs."""
    for llm, mine in jobs.by_llm(session, ids).items():
        wake(broker, session, llm, mine)


def _send(broker: Broker, message: Message[Any], delay_ms: int | None) -> None:
    try:
        broker.enqueue(message, delay=delay_ms)
    except Exception as error:  # noqa: BLE001  (what is committed must not fail for want of a hint)
        telemetry.hints.labels("failed").inc()
        log.warning("A hint was not sent (%s); the sweeper will hint again.", error)
    else:
        telemetry.hints.labels("sent").inc()

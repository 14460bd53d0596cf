"""A database with rows in every table, put there by the models."""

from __future__ import annotations

from sqlalchemy import select, text

from migrations.metadata import metadata
from models import commands, idempotency, keys, messages, runtime, workers
from models.commands import Kind
from models.database import Database
from models.idempotency import Answer
from tests.indexing import index
from tests.models.desk import Desk
from tests.rows import LLM, TENANT, at, new_job, new_llm, new_worker


def fill(database: Database) -> None:
    """Let jobs, bulks, agents and all the rest come to be; fails if a table stays empty."""
    desk = Desk(database)
    desk.submit(new_job(tags=("x",), metadata={"a": "b"}), new_job(agent="ada"), new_job(run_at=at(9)))
    desk.publish(desk.stage(new_job(), new_job()))
    desk.finish(desk.take(), json={"a": [1, None]}, first_step_at=at(0))
    desk.fail(desk.take())
    desk.hand_back(desk.take(), [1, 2, 3])
    desk.take()
    index(database)
    desk.fail(desk.take(), pause=None)  # its document is not up to date
    with database.write() as session:
        keys.create(session, TENANT, "mine", at(0))
        idempotency.remember(session, TENANT, "k", "f" * 64, Answer(202, "/", "{}"), at(0))
        commands.issue(session, TENANT, LLM, Kind.SAVE, {"owner": f"{TENANT}/ada"}, at(0))
        runtime.put(session, LLM, runtime.WINDOW_MS, 5, at(0))
        messages.put(session, "hints", b"hint", delay_ms=5)
        workers.publish_llm(session, new_llm())
        session.add(new_worker())
    assert [name for name, count in counts(database).items() if not count] == []


def counts(database: Database) -> dict[str, int]:
    """How many rows each table of the models has."""
    with database.read() as session:
        return {
            name: len(session.execute(select(text("1")).select_from(table)).all())
            for name, table in metadata.tables.items()
        }

"""What finding jobs by words asks of the database: no more work than the words are worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Select, event, text

from models import finding, listing, search
from models.database import Database, Session
from models.finding import Filters
from models.words import Terms
from tests.indexing import index
from tests.models.desk import Desk
from tests.rows import TENANT, new_job


@contextmanager
def asked_of_the_index(database: Database) -> Iterator[list[str]]:
    """Statements, with their parameters, that ask the full-text index for jobs while this is open."""
    seen: list[str] = []
    sign = "MATCH" if database.dialect == "sqlite" else "ORDER BY documents.seq +"

    def note(_c: object, _k: object, statement: str, parameters: object, *_: object) -> None:
        seen.extend([f"{statement} {parameters}"] * statement.count(sign))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("words", ["unheard-of", "needle of", "of"])
def test_sqlite_is_not_asked_for_a_common_beginning(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Its index puts together all jobs with a beginning: whole words beside it, or the newest jobs, do."""
    desk = Desk(sqlite_database)
    monkeypatch.setattr(listing, "MOST_COUNTED", 8)
    desk.submit(new_job("needle of"), *(new_job("one of many") for _ in range(9)))
    index(sqlite_database)
    with asked_of_the_index(sqlite_database) as seen, sqlite_database.read() as session:
        listing.page(session, TENANT, Filters(text=words), None, 5)
        listing.count(session, TENANT, Filters(text=words))
    assert seen
    assert [one for one in seen if '"*' in one] == []


def test_a_page_asks_the_index_of_postgresql_once(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds all jobs that have the words before it gives one, which is long for a common beginning."""
    desk = Desk(postgres_database)
    desk.submit(*(new_job("one of many") for _ in range(3)))
    index(postgres_database)
    monkeypatch.setattr(finding, "NEAR", 2)
    with asked_of_the_index(postgres_database) as seen, postgres_database.read() as session:
        listing.page(session, TENANT, Filters(text="unheard of"), None, 0)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("unheard-of", [Terms(("unheard",), None)]),
        ("of-unheard", [Terms(("of",), "unheard")]),
    ],
)
def test_postgresql_is_asked_for_rare_words_alone(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, words: str, asked: list[Terms]
) -> None:
    """Not for a beginning beside them that may be common; for common words beside a beginning, for both."""
    desk = Desk(postgres_database)
    desk.submit(*(new_job("one of many") for _ in range(30)))
    index(postgres_database)
    with postgres_database.write() as session:
        session.execute(text("ANALYZE documents"))
    monkeypatch.setattr(finding, "NEAR", 2)
    monkeypatch.setattr(search, "RARE", 20)
    seen: list[Terms] = []
    hits = search.hits

    def noted(session: Session, tenant_id: str, terms: Terms) -> tuple[Any, Select[Any]]:
        seen.append(terms)
        return hits(session, tenant_id, terms)

    monkeypatch.setattr(search, "hits", noted)
    with postgres_database.read() as session:
        found = listing.page(session, TENANT, Filters(text=words), None, 1)
    assert (found.jobs, found.last, seen) == ([], None, asked)

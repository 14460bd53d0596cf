"""The indexer: small steps, and every sweep takes some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.settings import Broker, Settings
from models import documents
from models.documents import Document, StaleDocument
from models.states import State
from tests.models.desk import Desk
from tests.rows import new_job
from tests.service import Service, running_service
from tests.workers.test_sweeper import sweeper_of
from workers import indexing
from workers.indexing import Indexer


@pytest.fixture
def service(settings: Settings, database_url: str) -> Iterator[Service]:
    """A service that is not started, on both databases."""
    with running_service(settings, database_url, Broker()) as made:
        yield made


@pytest.fixture
def desk(service: Service) -> Desk:
    """Where jobs come from."""
    return Desk(service.database)


def test_each_step_is_small(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step stores as many words as fit, one job at the least; in between others can write."""
    monkeypatch.setattr(indexing, "WORDS", (4, 4))
    desk.submit(*(new_job(text) for text in ("a b", "c d", "e", "f g h i j", "k", "l m n")))
    made = []
    for _ in Indexer(desk.database, 0.0).round():
        with desk.database.write():
            made.append(len(desk.all(Document)))
    assert made == [2, 3, 4, 6]


def test_reading_goes_on_where_it_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are read a number of jobs at a time, and all of them in the end."""
    monkeypatch.setattr(indexing, "READ", 2)
    desk.submit(*(new_job() for _ in range(5)))
    indexer = Indexer(desk.database, 1.0)
    assert len(list(indexer.round())) == 3
    assert len(desk.all(Document)) == 5
    assert list(indexer.round()) == []


def test_errors_are_added_in_the_same_round(desk: Desk) -> None:
    """What failed before it was indexed, and what failed after, has its words when the round is over."""
    desk.submit(new_job(), new_job())
    desk.finish(desk.take(), state=State.FAILED, error_message="moon")
    indexer = Indexer(desk.database, 1.0)
    list(indexer.round())
    desk.finish(desk.take(), state=State.FAILED, error_message="moon")
    list(indexer.round())
    assert desk.all(StaleDocument) == []
    with desk.database.read() as session:
        assert documents.stale(session, 9) == []
    assert all("moon" in str(document.words) for document in desk.all(Document))


def test_a_sweep_makes_jobs_findable(service: Service, desk: Desk) -> None:
    """Each sweep brings the index up to date."""
    desk.submit(new_job(), new_job())
    sweeper_of(service).sweep()
    assert len(desk.all(Document)) == 2

"""Finding jobs by words: the same answer before the index has come to them and after."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import delete, text

from models import bulks, documents, listing, retention, search
from models.database import Database
from models.documents import Document, StaleDocument
from models.finding import Filters
from models.job_rows import Job
from models.states import State
from models.submission import submit
from models.words import Terms, words_of
from tests.indexing import index
from tests.models.desk import CLIENT, Desk
from tests.rows import OFFSETS, TENANT, new_job
from workers.indexing import Indexer

NEEDLE = "needle"


@pytest.fixture(autouse=True)
def sound_index(database: Database) -> Iterator[None]:
    """On SQLite the index holds exactly what the documents say, at the end of each test."""
    yield
    if database.dialect == "sqlite":
        with database.write() as session:
            session.execute(
                text("INSERT INTO fts_documents (fts_documents, rank) VALUES ('integrity-check', 1)")
            )


def found(desk: Desk, words: str, tenant_id: str = TENANT, limit: int = 100, **narrow: object) -> list[str]:
    """The ids of a tenant's jobs that have some words, page by page."""
    seen: list[str] = []
    before: int | None = None
    for _ in range(100):
        with desk.database.read() as session:
            filters = Filters(text=words, **narrow)  # type: ignore[arg-type]  # any filter
            page = listing.page(session, tenant_id, filters, before, limit)
        seen += [job.id for job in page.jobs]
        if (before := page.last) is None:
            return seen
    raise AssertionError("pages do not end")


def number(desk: Desk, words: str) -> int:
    """How many jobs of the tenant have some words."""
    with desk.database.read() as session:
        counted = listing.count(session, TENANT, Filters(text=words))
    assert not counted.capped
    return counted.count


def reached(desk: Desk) -> int:
    """The number of the last job with a document."""
    with desk.database.read() as session:
        return documents.reached(session)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("needle", "a NEEDLE in it"),
        ("Needle hay", "hay, with a needle"),
        ("need", "some needles"),
        ("items/3", "GET /items/3 HTTP"),
        ("100%", "at 100% now"),
        ("grün", "GRÜN"),
        ("strasse", "Große Straße"),
        ("東京", "私は東京に行く"),
        ("it's", "it's"),
        ('say "hi"', 'they say "hi" there'),
        ("two lines", "two\nlines"),
        ("or not and near", "AND NOT OR NEAR"),
    ],
)
def test_words_are_found_before_and_after_they_are_indexed(desk: Desk, words: str, said: str) -> None:
    """Case, signs between words and their order do not matter, and the last word may go on."""
    (wanted,) = desk.submit(new_job(said))
    desk.submit(new_job("hay in a stack 1000"))
    assert found(desk, words) == [wanted]
    index(desk.database)
    assert found(desk, words) == [wanted]


def test_it_is_what_reading_every_job_would_find(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """For many questions, with the index half-way and small bounds, pages give what a plain look gives."""
    desk.careful = False
    draw = random.Random(1)
    stock = ["a", "ab", "abc", "b", "ba", "c", "ca", "cab"]
    texts = [" ".join(draw.choices(stock, k=draw.randint(0, 4))) for _ in range(60)]
    asked = [new_job(said, tags=draw.choice([(), ("x",)])) for said in texts]
    ids = desk.submit(*asked[:40])
    index(desk.database)
    ids += desk.submit(*asked[40:])
    tagged = {job_id for job_id, job in zip(ids, asked, strict=True) if job.tags}
    known = {job_id: words_of(job.request, None) for job_id, job in zip(ids, asked, strict=True)}
    for turn in range(30):
        monkeypatch.setattr(listing, "LOOK", draw.choice([5, 20, 1000]))
        monkeypatch.setattr(search, "SCAN", draw.choice([3, 1000]))
        words = " ".join(draw.choices(stock, k=draw.randint(1, 3))) + draw.choice(["", " "])
        expected = [job_id for job_id in reversed(ids) if Terms.of(words).match(known[job_id])]
        assert found(desk, words, limit=draw.choice([1, 7, 50])) == expected, (turn, words)
        assert found(desk, words, tag="x", limit=3) == [each for each in expected if each in tagged], words


def test_counts_are_what_reading_every_job_would_give(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are exact, or say that there are more; a beginning counts with all words that it begins."""
    desk.careful = False
    draw = random.Random(2)
    stock = ["ab", "abc", "b", "ba", "ca", "cab"]
    asked = [new_job(" ".join(draw.choices(stock, k=draw.randint(0, 4)))) for _ in range(60)]
    known = [words_of(job.request, None) for job in asked]
    desk.submit(*asked)
    index(desk.database)
    for turn in range(30):
        most = draw.choice([2, 20, 1000])
        monkeypatch.setattr(listing, "MOST_COUNTED", most)
        words = " ".join(draw.choices(stock, k=draw.randint(1, 3))) + draw.choice(["", " "])
        expected = sum(Terms.of(words).match(each) for each in known)
        with desk.database.read() as session:
            counted = listing.count(session, TENANT, Filters(text=words))
        assert counted.count <= expected, (turn, words)
        assert counted.count == expected or (counted.capped and most < 1000), (turn, words)
        assert counted.capped or expected <= most, (turn, words)


def test_the_error_is_found_at_once_and_for_good(desk: Desk) -> None:
    """A job that fails is found by its error: with an old document, a new one, and none."""
    first, second = desk.submit(new_job(), new_job())
    index(desk.database)
    (third,) = desk.submit()
    for _ in range(3):
        desk.finish(desk.take(), state=State.FAILED, error_message="the moon_was full")
    assert found(desk, "Moon_was") == [third, second, first]
    assert (number(desk, "moon_w"), number(desk, "hello")) == (3, 3)
    index(desk.database)
    assert desk.all(StaleDocument) == []
    assert found(desk, "moon_was hello") == [third, second, first]
    assert found(desk, "moonx") == []


def test_a_job_that_fails_while_it_is_indexed_is_found(desk: Desk) -> None:
    """A document made of what was read before the error came is made again."""
    (job_id,) = desk.submit()
    with desk.database.read() as session:
        made = documents.pending(session, 2**62, 10)
    desk.finish(desk.take(), state=State.FAILED, error_message="moon")
    with desk.database.write() as session:
        documents.store(session, made)
    assert found(desk, "moon") == [job_id]
    index(desk.database)
    assert desk.all(StaleDocument) == []
    assert found(desk, "moon") == [job_id]


def test_what_is_deleted_is_not_found_and_leaves_nothing(desk: Desk) -> None:
    """Deleted by a client, by age, or as part of a bulk that came to nothing: the words go too."""
    old, gone, kept = desk.submit(new_job(NEEDLE), new_job(NEEDLE), new_job(NEEDLE))
    bulk = desk.stage(new_job(NEEDLE), new_job(NEEDLE))
    desk.finish(*desk.claim(3))
    index(desk.database)
    assert len(desk.all(Document)) == 5
    desk.remove(gone)
    desk.do("drop", lambda session: retention.drop(session, [desk.job(old).seq]))
    desk.do("drop", lambda session: bulks.drop(session, bulk.id))
    assert found(desk, NEEDLE) == [kept]
    assert [document.seq for document in desk.all(Document)] == [desk.job(kept).seq]
    desk.remove(kept)
    assert indexed(desk.database, NEEDLE) == 0


def indexed(database: Database, word: str) -> int:
    """How many jobs of the tenant the index itself holds for a word, whether they are there or not."""
    with database.read() as session:
        _, query = search.hits(session, TENANT, Terms.of(word))
        return len(session.scalars(query).all())


def test_a_number_that_is_given_again_is_not_missed(desk: Desk) -> None:
    """SQLite gives the number of the last job, once that is deleted, to the next, and that is found."""
    _, last = desk.submit(new_job(), new_job(NEEDLE))
    desk.finish(*desk.claim(2))
    index(desk.database)
    desk.remove(last)
    again, more = desk.submit(new_job("thread"), new_job("thread"))
    assert (found(desk, "thread"), found(desk, NEEDLE)) == ([more, again], [])
    index(desk.database)
    assert (found(desk, "thread"), found(desk, NEEDLE)) == ([more, again], [])
    assert reached(desk) == desk.job(more).seq


def test_a_draft_whose_job_was_deleted_is_dropped(desk: Desk) -> None:
    """What happens between reading and storing is noticed, also when another job has the number by then."""
    old = desk.submit(new_job(NEEDLE))
    with desk.database.read() as session:
        made = documents.pending(session, 2**62, 10)
    desk.finish(desk.take())
    desk.remove(*old)
    desk.submit(new_job("thread"))
    with desk.database.write() as session:
        documents.store(session, made)
    assert desk.all(Document) == []
    index(desk.database)
    assert found(desk, NEEDLE) == []
    assert len(found(desk, "thread")) == 1


def test_storing_the_same_twice_changes_nothing(desk: Desk) -> None:
    """Two indexers that read the same jobs make one document of each."""
    desk.submit(new_job(NEEDLE), new_job(NEEDLE))
    with desk.database.read() as session:
        made = documents.pending(session, 2**62, 10)
    for _ in range(2):
        with desk.database.write() as session:
            documents.store(session, made)
    assert (len(desk.all(Document)), indexed(desk.database, NEEDLE)) == (2, 2)


def test_a_bulk_is_found_when_it_is_published(desk: Desk) -> None:
    """Jobs that were stored first and shown later are neither missed nor shown too early."""
    bulk = desk.stage(new_job(NEEDLE), new_job(NEEDLE))
    (later,) = desk.submit(new_job(NEEDLE))
    index(desk.database)
    assert (found(desk, NEEDLE), number(desk, NEEDLE)) == ([later], 1)
    desk.publish(bulk)
    assert (len(found(desk, NEEDLE)), number(desk, NEEDLE)) == (3, 3)


def test_late_commits_are_not_passed_over(postgres_database: Database) -> None:
    """On PostgreSQL a job can appear late, with a lower number: the index waits, the search does not."""
    desk, indexer = Desk(postgres_database), Indexer(postgres_database, 1.0)
    with postgres_database.write() as session:
        (late,) = submit(session, [new_job(NEEDLE, tenant_id="b")], OFFSETS, CLIENT, desk.now)
        (early,) = desk.submit(new_job(NEEDLE))
        for _ in range(3):
            list(indexer.round())
        assert reached(desk) == 0
        assert found(desk, NEEDLE) == [early]
    assert found(desk, NEEDLE, "b") == [late.id]
    list(indexer.round())
    assert reached(desk) == desk.job(early).seq > desk.job(late.id).seq
    assert (found(desk, NEEDLE), found(desk, NEEDLE, "b")) == ([early], [late.id])


def test_numbers_of_transactions_and_jobs_may_cross(postgres_database: Database) -> None:
    """On PostgreSQL the older of two transactions may store the newer job, and be over first."""
    desk, indexer = Desk(postgres_database), Indexer(postgres_database, 1.0)
    with ExitStack() as later:
        with postgres_database.write() as older:
            older.execute(text("SELECT pg_current_xact_id()"))
            younger = later.enter_context(postgres_database.write())
            (low,) = submit(younger, [new_job(tenant_id="b")], OFFSETS, CLIENT, desk.now)
            (high,) = submit(older, [new_job(tenant_id="c")], OFFSETS, CLIENT, desk.now)
        for _ in range(3):
            list(indexer.round())
        assert reached(desk) == 0
    list(indexer.round())
    assert {document.seq for document in desk.all(Document)} == {desk.job(job.id).seq for job in (low, high)}


def test_the_index_advances_although_somebody_always_writes(postgres_database: Database) -> None:
    """On PostgreSQL it waits for the transactions that had begun, not for those that came later."""
    desk, indexer = Desk(postgres_database), Indexer(postgres_database, 1.0)
    with ExitStack() as later:
        with postgres_database.write() as first:
            submit(first, [new_job(tenant_id="b")], OFFSETS, CLIENT, desk.now)
            (job_id,) = desk.submit()
            list(indexer.round())
            second = later.enter_context(postgres_database.write())
            submit(second, [new_job(tenant_id="c")], OFFSETS, CLIENT, desk.now)
        list(indexer.round())
        assert reached(desk) == desk.job(job_id).seq


@pytest.mark.parametrize("codes", ["of their own", "the same"])
def test_tenants_find_their_own(desk: Desk, monkeypatch: pytest.MonkeyPatch, codes: str) -> None:
    """Nothing of another tenant is found or counted, even where both have the same code in the index."""
    if codes == "the same":
        for module in (documents, search):
            monkeypatch.setattr(module, "code", lambda _: "aaaa")
    mine, theirs = desk.submit(new_job(NEEDLE)) + desk.submit(new_job(NEEDLE, tenant_id="b"))
    for _ in range(2):
        assert (found(desk, NEEDLE), found(desk, NEEDLE, "b")) == ([mine], [theirs])
        assert number(desk, NEEDLE) == 1
        assert found(desk, theirs) == []
        index(desk.database)


def test_an_id_is_found_by_its_beginning(desk: Desk) -> None:
    """An id is found whole and by its first twelve digits or more; shorter, it is a word like any other."""
    first, second = desk.submit(new_job("see job_0"), new_job())
    index(desk.database)
    assert found(desk, first) == [first]
    assert found(desk, second[:-1]) == [second]
    assert set(found(desk, second[: len("job_") + 12])) >= {second}
    assert found(desk, "job_0") == [first]
    assert found(desk, f"{second[:-1]}g") == []
    assert found(desk, second, states=(State.RUNNING,)) == []


def test_jobs_the_index_has_not_come_to_are_found_page_by_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page reads so many texts and no more; one that found nothing leads to the next."""
    monkeypatch.setattr(search, "SCAN", 2)
    (wanted,) = desk.submit(new_job(NEEDLE))
    desk.submit(*(new_job() for _ in range(5)))
    with desk.database.read() as session:
        first = listing.page(session, TENANT, Filters(text=NEEDLE), None, 50)
        counted = listing.count(session, TENANT, Filters(text=NEEDLE))
    assert (first.jobs, first.last is None) == ([], False)
    assert (counted.count, counted.capped) == (0, True)
    assert found(desk, NEEDLE) == [wanted]


def test_many_that_failed_at_once_are_found_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is with jobs whose document is old."""
    monkeypatch.setattr(search, "SCAN", 2)
    ids = desk.submit(*(new_job() for _ in range(5)))
    index(desk.database)
    desk.finish(*desk.claim(5), state=State.FAILED, error_message="moon")
    assert found(desk, "moon") == ids[::-1]


def test_long_texts_are_read_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one request or one step of the indexer reads is bounded by its length too."""
    monkeypatch.setattr(documents, "MOST_TOKENS", 25)
    ids = desk.submit(*(new_job(NEEDLE) for _ in range(5)), new_job(NEEDLE, estimated_tokens=99))
    with desk.database.read() as session:
        assert len(documents.pending(session, 2**62, 10)) == 2
    assert found(desk, NEEDLE) == ids[::-1]
    index(desk.database)
    assert reached(desk) == desk.job(ids[-1]).seq


def test_the_index_alone_answers_for_what_it_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to read directly, a rare word far back is found in one page."""
    monkeypatch.setattr(listing, "LOOK", 4)
    (wanted,) = desk.submit(new_job(NEEDLE))
    desk.submit(*(new_job() for _ in range(9)))
    index(desk.database)
    with desk.database.write() as session:  # so that only the index can know
        session.execute(text("UPDATE payloads SET request = '{\"messages\": []}'"))
    with desk.database.read() as session:
        page = listing.page(session, TENANT, Filters(text=NEEDLE), None, 1)
    assert ([job.id for job in page.jobs], page.last) == ([wanted], None)


def test_documents_of_jobs_deleted_in_numbers_go_with_them(desk: Desk) -> None:
    """The database itself takes the words of a job out of the index, whoever deletes the job."""
    desk.is_tampered = True
    desk.submit(*(new_job(NEEDLE) for _ in range(4)))
    index(desk.database)
    with desk.database.write() as session:
        session.execute(delete(Job))
    assert (desk.all(Document), indexed(desk.database, NEEDLE), reached(desk)) == ([], 0, 0)

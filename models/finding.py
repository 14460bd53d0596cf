"""Which jobs a filter lets through, newest first, with an effort that has an end.

For most filters there is an index that gives the jobs in the order of their
submission: a way. The newest on a way are looked at, a few at first and then
many, until enough of them pass the other filters; when so many have been looked
at, one stops and says how far it went. Several filters open several ways; the
first that leads to the end is taken, or else the one that led furthest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, null, select, text, union_all
from sqlalchemy.orm import Session

from models import documents, ids, search
from models.documents import among
from models.job_rows import Job, JobTag
from models.search import Found, Range
from models.states import TERMINAL, Priority, State
from models.words import Terms

SLACK = timedelta(seconds=30)
"""How far the clocks that stamp jobs, and the order in which these are stored, may disagree.

Times are looked up by ids, which tell when they were made. Where a clock was set back, or clocks
differ, by more than this, a list that is bounded by time may miss jobs from around that bound.
"""

NEAR = 2_000
"""Jobs whose words are looked at one by one before the index is asked for all of them.

A word that is common is found among these; for a rare one the index has few jobs to tell of.
"""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs of a tenant; what is None or empty does not narrow."""

    states: tuple[State, ...] = ()
    agent: str | None = None
    llm: str | None = None
    tag: str | None = None
    priority: Priority | None = None
    bulk_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    text: str | None = None

    @property
    def are_counted(self) -> bool:
        """Whether the counters know how many pass."""
        others = (self.agent, self.tag, self.bulk_id, self.created_after, self.created_before, self.text)
        return all(other is None for other in others)


@dataclass(frozen=True, slots=True)
class Way:
    """Queries for ``seq``, each with what to order it by, which together give all that may pass.

    ``most`` is how many may be looked at; ``reads`` says whether the words must still be looked for.
    Where ``gives_all`` is false others may pass too: the way only tells how many there are at least.
    """

    queries: Sequence[tuple[Any, Select[Any]]]
    most: int
    reads: bool = True
    gives_all: bool = True

    def newest(self, within: Range, size: int) -> Select[Any]:
        """The first on the way."""
        parts = [
            query.where(within.holds(order)).order_by(order.desc()).limit(size)
            for order, query in self.queries
        ]
        return _united(parts).order_by(text("seq DESC")).limit(size)

    def some(self, within: Range, size: int) -> Select[Any]:
        """Any on the way, which may be easier to find."""
        parts = [query.where(within.holds(order)).limit(size) for order, query in self.queries]
        return _united(parts).limit(size)


class Search:
    """One question for jobs of a tenant.

    Raises:
        ValueError: the text has no word in it.
    """

    def __init__(self, session: Session, tenant_id: str, filters: Filters) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._filters = filters
        wanted = filters.text
        self._by_id = None if wanted is None else search.by_id(wanted)
        self._terms = None if wanted is None or self._by_id is not None else Terms.of(wanted)
        self._conditions = list(self._narrowed())

    def find(self, before: int | None, want: int, most: int) -> Found:
        """Up to ``want`` jobs submitted before the one with ``seq`` = ``before``.

        At most ``most`` are looked at on each way: there may be fewer, although others follow.
        """
        within = self._range(before)
        if self._terms is None:
            return self._along(within, want, most)
        fresh, rest = self._fresh(within, self._terms)
        indexed = self._along(rest, want, most)
        floors = [floor for floor in (fresh.floor, indexed.floor) if floor is not None]
        floor = max(floors, default=None)
        seqs = sorted({*fresh.seqs, *indexed.seqs}, reverse=True)
        return Found([seq for seq in seqs if floor is None or seq >= floor][:want], floor)

    def count(self, most: int) -> tuple[int, bool]:
        """How many there are, and whether those are all; at most ``most`` are looked at on each way."""
        within = self._range(None)
        if self._terms is None:
            return self._count(within, most)
        fresh, rest = self._fresh(within, self._terms)
        there, all_seen = self._count(rest, most)
        new = len(fresh.seqs) - self._indexed(fresh.seqs, rest, self._terms)
        return new + there, all_seen and fresh.floor is None

    def _fresh(self, within: Range, terms: Terms) -> tuple[Found, Range]:
        """What is found without documents, and where they tell of the rest."""
        reached = documents.reached(self._session)
        query = select(Job.seq).where(*self._conditions)
        fresh = search.unindexed(self._session, self._tenant_id, query, terms, within, reached)
        return fresh, Range(within.low, min(within.high, reached + 1))

    def _indexed(self, seqs: Sequence[int], rest: Range, terms: Terms) -> int:
        """How many of some jobs the documents tell of as well."""
        if not seqs:
            return 0
        query = select(func.count()).where(among(self._session, Job.seq, seqs), rest.holds(Job.seq))
        return self._session.scalar(query.where(search.holds(self._session, self._tenant_id, terms))) or 0

    def _range(self, before: int | None) -> Range:
        """Where the times and the page leave jobs to be looked for."""
        low, high = 0, 2**63 - 1 if before is None else before
        after, until = self._filters.created_after, self._filters.created_before
        if after is not None:
            low = self._first_since(after - SLACK) or high
        if until is not None:
            high = min(high, self._first_since(until + SLACK) or high)
        return Range(low, high)

    def _first_since(self, moment: datetime) -> int | None:
        first = select(Job.seq).where(Job.id >= ids.first("job", moment))
        return self._session.scalar(first.order_by(Job.id).limit(1))

    def _ways(self, most: int, *, newest: bool) -> Iterator[Way]:
        """The narrow ones first; where the ``newest`` are not wanted more than others, no look at them."""
        wanted, own = self._filters, select(Job.seq).where(Job.tenant_id == self._tenant_id)
        if self._by_id is not None:
            yield Way([_few(select(Job.seq).where(self._by_id))], most)
        if wanted.bulk_id is not None:
            yield Way([_few(select(Job.seq).where(Job.bulk_id == wanted.bulk_id))], most)
        if wanted.tag is not None:
            tagged = (JobTag.tenant_id == self._tenant_id, JobTag.tag == wanted.tag)
            yield Way([(JobTag.seq, select(JobTag.seq).where(*tagged))], most)
        if wanted.agent is not None:
            states = set(wanted.states or State)
            halves = [Job.finished_at.is_(None)] if states - TERMINAL else []
            halves += [Job.finished_at.is_not(None)] if states & TERMINAL else []
            yield Way([(Job.seq, own.where(Job.agent == wanted.agent, half)) for half in halves], most)
        in_states = [(Job.seq, own.where(Job.state == state.value)) for state in set(wanted.states)]
        if self._terms is None:
            yield Way(in_states or [(Job.seq, own)], most)
            return
        near = [Way(in_states or [(Job.seq, own)], min(most, NEAR))] if in_states or newest else []
        yield from self._by_words(self._terms, near, most, newest=newest)

    def _by_words(self, terms: Terms, near: Sequence[Way], most: int, *, newest: bool) -> Iterator[Way]:
        """The index for words, and the ``near`` jobs where it is not quick.

        Either index puts together all that have a beginning before it tells of any: so it is asked for whole
        words alone as long as these may be enough. For these SQLite's tells of the newest first,
        however common they are; PostgreSQL finds all that have them, and sorts.
        """
        whole = Terms(terms.whole, None)
        begins = bool(terms.whole) and terms.start is not None
        if self._session.get_bind().dialect.name == "postgresql":
            yield from near
            if begins and search.are_rare(self._session, self._tenant_id, whole):
                yield self._hits(whole, min(most, NEAR), reads=True)
            yield self._hits(terms, most)
        elif terms.start is None:
            yield from [self._hits(terms, most), *near]
        else:
            if not newest:
                yield self._hits(terms.ended, most, gives_all=False)
            if begins:
                yield self._hits(whole, min(most, NEAR), reads=True)
            yield from near
            yield self._hits(terms, most)

    def _hits(self, terms: Terms, most: int, *, reads: bool = False, gives_all: bool = True) -> Way:
        """What the index holds for words."""
        return Way([search.hits(self._session, self._tenant_id, terms)], most, reads, gives_all)

    def _narrowed(self) -> Iterator[ColumnElement[bool]]:
        """All filters but that for words."""
        wanted = self._filters
        yield Job.tenant_id == self._tenant_id
        yield Job.staged.is_(False)
        if wanted.states:
            yield Job.state.in_([state.value for state in wanted.states])
        for column, value in (
            (Job.agent, wanted.agent),
            (Job.llm, wanted.llm),
            (Job.priority, wanted.priority),
            (Job.bulk_id, wanted.bulk_id),
        ):
            if value is not None:
                yield column == value
        if wanted.tag is not None:
            mine = (JobTag.tenant_id == self._tenant_id, JobTag.tag == wanted.tag, JobTag.seq == Job.seq)
            yield select(JobTag.seq).where(*mine).exists()
        if wanted.created_after is not None:
            yield Job.created_at >= wanted.created_after
        if wanted.created_before is not None:
            yield Job.created_at < wanted.created_before
        if self._by_id is not None:
            yield self._by_id

    def _passing(self, way: Way) -> list[ColumnElement[bool]]:
        """What must hold for the jobs on a way."""
        if self._terms is None or not way.reads:
            return self._conditions
        return [*self._conditions, search.holds(self._session, self._tenant_id, self._terms)]

    def _along(self, within: Range, want: int, most: int) -> Found:
        best = Found([], within.high)
        for way in self._ways(most, newest=True):
            found = self._walk(way, within, want)
            if found.floor is None:
                return found
            if found.floor < (best.floor or 0):
                best = found
        return best

    def _walk(self, way: Way, within: Range, want: int) -> Found:
        """To the end, as far as one may look, or until there are enough: the first few often are."""
        seqs: list[int] = []
        last = None
        for size in (2 * want, way.most):
            seqs, number, last = self._look(way, way.newest(within, size), want)
            if len(seqs) == want or number < size:
                return Found(seqs)
        return Found(seqs, last)

    def _look(self, way: Way, newest: Select[Any], want: int) -> tuple[list[int], int, int]:
        """Those of the newest on a way that pass, how many were looked at, and the last of these.

        All in one statement, for on some ways the newest have to be put together first.
        """
        each = newest.cte("newest")
        passing = select(Job.seq).where(_of(self._session, select(each.c.seq)), *self._passing(way))
        found = passing.order_by(Job.seq.desc()).limit(want).subquery()
        every = select(null(), func.count(), func.min(each.c.seq)).select_from(each)
        rows = self._session.execute(select(found.c.seq, null(), null()).union_all(every)).all()
        ((number, last),) = [(number, last) for seq, number, last in rows if seq is None]
        return sorted((seq for seq, *_ in rows if seq is not None), reverse=True), number, last

    def _count(self, within: Range, most: int) -> tuple[int, bool]:
        best = 0
        for way in self._ways(most, newest=False):
            passes = case((and_(*self._passing(way)), 1))
            query = select(func.count(), func.count(passes)).select_from(Job)
            looked, there = self._session.execute(
                query.where(_of(self._session, way.some(within, way.most)))
            ).one()
            if looked < way.most and way.gives_all:
                return there, True
            best = max(best, there)
            if best == most:
                break
        return best, False


def _united(parts: Sequence[Select[Any]]) -> Select[Any]:
    """What several limited queries for ``seq`` give, as one."""
    each = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return select(next(iter(each.c)).label("seq"))


def _of(session: Session, query: Select[Any]) -> ColumnElement[bool]:
    """The condition for jobs that a query gives, looked up one by one whatever the database expects."""
    if session.get_bind().dialect.name == "postgresql":
        return Job.seq == func.any(func.array(query.scalar_subquery()))
    return Job.seq.in_(query)


def _few(query: Select[Any]) -> tuple[Any, Select[Any]]:
    """A query for few jobs that no index gives in order: by way of all in order it would take long."""
    return Job.seq + 0, query

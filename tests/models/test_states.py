"""The table of transitions, the functions that change states, and the diagram in the docs: one truth."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import update

from models.job_rows import Job
from models.states import TERMINAL, TRANSITIONS, WAITING, State
from models.suspicion import Suspect
from tests import repository, rows
from tests.models.desk import Desk
from tests.rows import Held, at, new_job

Pair = tuple[State, State]
DOCUMENT = repository.PROJECT / "ops" / "docs" / "life-of-a-job.md"
ARROW = re.compile(r"^\s*(\w+) --> (\w+) : (\w+)$", re.MULTILINE)

FUNCTIONS: dict[str, tuple[set[str], Callable[[Desk, Held], object]]] = {
    "promote_due": ({"promote"}, lambda desk, _: desk.promote()),
    "claim": ({"claim"}, lambda desk, _: desk.claim(100)),
    "finish as succeeded": ({"succeed"}, lambda desk, held: desk.finish(held)),
    "finish as failed": ({"fail"}, lambda desk, held: desk.finish(held, state=State.FAILED)),
    "finish as cancelled": ({"stop"}, lambda desk, held: desk.finish(held, state=State.CANCELLED)),
    "finish as expired": ({"lapse"}, lambda desk, held: desk.finish(held, state=State.EXPIRED)),
    "claim_ahead": ({"claim"}, lambda desk, _: desk.claim_ahead(*[(3, 10**9)] * 100)),
    "fail_attempt": ({"retry"}, lambda desk, held: desk.fail(held)),
    "fail_attempt, no other": ({"fail"}, lambda desk, held: desk.fail(held, pause=None)),
    "hand_back": ({"hand_back"}, lambda desk, held: desk.hand_back(held)),
    "rescue": ({"hand_back"}, lambda desk, _: desk.rescue()),
    "request_cancel": (set(), lambda desk, held: desk.request_cancel(held.job_id)),
    "cancel_waiting": ({"cancel"}, lambda desk, held: desk.cancel(held.job_id)),
    "expire_due": ({"expire"}, lambda desk, _: desk.expire()),
}
"""Each function that may change a state: the transitions it makes, and how to call it for a job."""


def pairs(names: set[str]) -> set[Pair]:
    """What the table says of some transitions: (before, after)."""
    return {(before, TRANSITIONS[name][1]) for name in names for before in TRANSITIONS[name][0]}


def bring(desk: Desk, state: State, expires: float | None) -> Held:
    """A new job brought into a state; how it got there is not looked at."""
    desk.careful = False
    with desk.database.write() as session:
        session.execute(update(Job).values(suspect=Suspect.NO))
    due = at(10) if state == State.SCHEDULED else None
    until = 0 if state == State.EXPIRED else expires
    (job_id,) = desk.submit(new_job(run_at=due, expires_at=None if until is None else at(until)))
    held = Held(job_id, 0)
    if state == State.EXPIRED:
        desk.expire()
    elif state not in WAITING:
        held = next(Held(job_id, claim.fence) for claim in desk.claim(100) if claim.job_id == job_id)
        if state != State.RUNNING:
            desk.finish(held, state=state)
    desk.careful = True
    return held


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_makes_its_transitions_and_no_others(desk: Desk, name: str) -> None:
    """Called for a job in each of the states, a function moves it as the table says, or leaves it alone."""
    allowed, call = FUNCTIONS[name]
    seen: set[Pair] = set()
    for state in State:
        desk.now = rows.START
        held = bring(desk, state, expires=50 if name == "expire_due" else None)
        assert desk.states(held.job_id) == [state]
        desk.now = at(60)
        desk.moves.clear()
        try:
            call(desk, held)
        except ValueError:
            assert desk.moves == []  # refused
        seen |= {(before, after) for _, job_id, before, after in desk.moves if job_id == held.job_id}
    assert seen == pairs(allowed)


def test_every_transition_has_a_function() -> None:
    """Nothing stands in the table that no function does, and no way leads out of a terminal state."""
    assert set().union(*(names for names, _ in FUNCTIONS.values())) == set(TRANSITIONS)
    assert not TERMINAL & {before for before, _ in pairs(set(TRANSITIONS))}


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_ended_jobs_never_change(desk: Desk, state: State) -> None:
    """Whatever is tried on an ended job, its row, result and bill stay as they are."""
    held = bring(desk, state, expires=None)
    before = row(desk, held.job_id)
    desk.now = at(60)
    for _, call in FUNCTIONS.values():
        try:
            call(desk, held)
        except ValueError:
            continue
    assert row(desk, held.job_id) == before


def row(desk: Desk, job_id: str) -> tuple[object, ...]:
    """All that is stored of a job, its result and its costs."""
    found = [desk.job(job_id), desk.result(job_id), *desk.costs(job_id)]
    return tuple(
        {name: value for name, value in vars(each).items() if not name.startswith("_")} if each else None
        for each in found
    )


def test_the_diagram_shows_the_table() -> None:
    """The arrows of the diagram in the docs are the transitions of the table, one from each source."""
    diagram = re.search(
        r"```mermaid\s*\nstateDiagram-v2\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    assert diagram is not None
    drawn = [arrow.groups() for arrow in ARROW.finditer(diagram[1])]
    table = [(str(a), str(after), name) for name, (before, after) in TRANSITIONS.items() for a in before]
    assert sorted(drawn) == sorted(table)

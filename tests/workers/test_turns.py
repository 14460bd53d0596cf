"""Whose turn it is to be loaded: a policy that needs neither LLMs nor time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from config.settings import Worker
from workers.turns import Move, Seat, Turns

WAIT = 30.0


class Stage:
    """Places, a clock in the test's hands, and the turns taken in them."""

    def __init__(self, places: int = 1, unload: float = 0) -> None:
        self.now = 100.0
        self.seats = [Seat("nobody", is_loaded=False, is_busy=False) for _ in range(places)]
        settings = Worker(swap_wait_seconds=WAIT, unload_seconds=unload, retry_load_seconds=60)
        self.turns = Turns(settings, lambda: self.now)

    def look(self, *wanted: str, elsewhere: tuple[str, ...] = ()) -> Move | None:
        """Look once; what is decided is done."""
        self.seats = [Seat(seat.llm, seat.is_loaded, seat.llm in wanted) for seat in self.seats]
        move = self.turns.next(self.seats, wanted, elsewhere)
        if move is not None:
            self.put(move.place, move.llm)
        return move

    def put(self, place: int, llm: str | None, *, on_demand: bool = False) -> None:
        """Have an LLM loaded in a place, or none."""
        if llm is not None:
            self.turns.came(llm, on_demand=on_demand)
        self.seats[place] = Seat(llm or self.seats[place].llm, llm is not None, is_busy=False)

    def minutes(self, *wanted: str, seconds: float) -> Iterator[tuple[float, Move]]:
        """The moves of some time in which the same are wanted, and when each is made."""
        end = self.now + seconds
        while self.now < end:
            if (move := self.look(*wanted)) is not None:
                yield self.now, move
            self.now += 1


@pytest.fixture
def stage() -> Stage:
    """One place, in which ``a`` is loaded."""
    made = Stage()
    made.put(0, "a")
    return made


def test_nothing_is_done_for_nobody(stage: Stage) -> None:
    """Whoever is loaded stays, with jobs and without, as long as nobody else has any."""
    assert [move for _, move in stage.minutes(seconds=3600)] == []
    assert [move for _, move in stage.minutes("a", seconds=3600)] == []


def test_a_free_place_is_taken_at_once() -> None:
    """There is nobody to wait for."""
    assert Stage().look("b") == Move(0, "b")


def test_who_has_nothing_to_do_leaves_at_once(stage: Stage) -> None:
    """Jobs of another do not wait for an LLM without jobs."""
    assert stage.look("b") == Move(0, "b")


def test_jobs_of_what_is_loaded_go_first_for_a_while(stage: Stage) -> None:
    """A busy LLM is exchanged when another's jobs have waited, and comes back after as long."""
    moves = list(stage.minutes("a", "b", seconds=100))
    assert moves == [(130, Move(0, "b")), (161, Move(0, "a")), (192, Move(0, "b"))]


def test_a_newcomer_stays_though_others_have_waited_longer(stage: Stage) -> None:
    """Of three with jobs, each waits for the two others and no longer."""
    moves = [(at, move.llm) for at, move in stage.minutes("a", "b", "c", seconds=130)]
    assert [llm for _, llm in moves] == ["b", "c", "a", "b"]
    times = [at for at, _ in moves]
    assert [later - at for at, later in pairwise(times)] == [30, 30, 30]


def test_waiting_begins_anew_when_the_jobs_are_gone(stage: Stage) -> None:
    """What was cancelled meanwhile counts for nobody."""
    assert [move for _, move in stage.minutes("a", "b", seconds=20)] == []
    assert stage.look("a") is None
    assert [at for at, _ in stage.minutes("a", "b", seconds=40)] == [150]


def test_the_idle_leave_before_the_busy() -> None:
    """Of several places that of the LLM without jobs is taken, of two such the one that rested longer."""
    stage = Stage(places=3)
    for place, llm in enumerate("abc"):
        stage.put(place, llm)
    stage.now += 1
    assert stage.look("a", "b") is None
    stage.now += WAIT
    assert stage.look("a", "d") == Move(2, "d")
    assert stage.look("a", "d", "e") == Move(1, "e")


def test_of_the_busy_the_one_that_came_first_leaves() -> None:
    """Where all have jobs, the turn of the one that has been there longest is over."""
    stage = Stage(places=2)
    stage.put(0, "a")
    stage.now += 20
    stage.put(1, "b")
    assert next(stage.minutes("a", "b", "c", seconds=60)) == (150, Move(0, "c"))


def test_what_could_not_be_loaded_waits_for_another_try(stage: Stage) -> None:
    """It is passed by until the pause is over; others are not."""
    stage.turns.failed("b")
    assert not stage.turns.may_try("b")
    assert stage.look("b") is None
    assert stage.look("b", "c") == Move(0, "c")
    stage.now += 60
    assert stage.look("b") == Move(0, "b")


def test_what_another_process_has_loaded_is_left_to_it(stage: Stage) -> None:
    """Its jobs are most likely about to be taken there; if they wait all the same, it comes here too."""
    assert stage.look("b", elsewhere=("b",)) is None
    stage.now += WAIT
    assert stage.look("b", elsewhere=("b",)) == Move(0, "b")


def test_what_was_asked_for_by_name_stays_a_while(stage: Stage) -> None:
    """It is not exchanged at once only because its jobs are still to come."""
    stage.put(0, "b", on_demand=True)
    assert [at for at, _ in stage.minutes("a", seconds=40)] == [130]


def test_who_cannot_wait_takes_the_place_of_whom_nobody_misses() -> None:
    """First a free one, then an idle one, then that of the LLM that came first."""
    busy = [Seat("a", is_loaded=True, is_busy=True), Seat("b", is_loaded=True, is_busy=True)]
    stage = Stage(places=2)
    for place, llm in ((1, "b"), (0, "a")):
        stage.put(place, llm)
        stage.now += 1
    assert stage.turns.at_once(busy) == 1
    assert stage.turns.at_once([Seat("a", is_loaded=True, is_busy=False), busy[1]]) == 0
    assert stage.turns.at_once([Seat("a", is_loaded=True, is_busy=False), Stage().seats[0]]) == 1


def test_the_idle_are_unloaded_in_time() -> None:
    """After the time without jobs, not while there are any; its next job brings it back."""
    stage = Stage(unload=10)
    stage.put(0, "a")
    assert list(stage.minutes("a", seconds=20)) == []
    assert list(stage.minutes(seconds=20)) == [(129, Move(0, None))]
    assert stage.look("a") == Move(0, "a")

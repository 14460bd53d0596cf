"""The gate counts rows x longest row in bytes and wastes little of it."""

from __future__ import annotations

from workers.backends.fake import FakeBackend
from workers.engine import Limits
from workers.engine.gate import Gate
from workers.engine.sequence import Sequence

from .batches import job

BYTES, GROWTH = 64, 256  # the twin's


def gate(max_rows: int = 8, *, square: tuple[int, int] = (1000, 1000), max_row_bytes: int = 0) -> Gate:
    """A gate for so many rows, and for the bytes of a rectangle of rows x tokens."""
    rows, tokens = square
    return Gate(FakeBackend().info, Limits(max_rows, rows * (tokens + GROWTH - 1) * BYTES, max_row_bytes))


def waiting(*lengths: int, priority: int = 1, rank: int = 0) -> list[Sequence]:
    """Sequences of so many tokens each, two or three of them prompt, in order of arrival and of rank."""
    backend = FakeBackend()
    return [
        Sequence(
            job(f"{n}", "x", max_tokens=length - 3, priority=priority, rank=rank + n), backend.detokenizer()
        )
        for n, length in enumerate(lengths)
    ]


def chosen(keeper: Gate, line: list[Sequence], live: list[Sequence]) -> list[Sequence]:
    """Who joins; nobody is parked."""
    choice = keeper.choose(line, live)
    assert choice.parked == []
    return choice.joining


def names(sequences: list[Sequence]) -> list[str]:
    """Who they are."""
    return sorted(sequence.admission.job_id for sequence in sequences)


def test_all_who_fit_are_chosen_together() -> None:
    """With room for all nobody waits."""
    assert names(chosen(gate(), waiting(10, 500, 20), [])) == ["0", "1", "2"]


def test_the_area_is_rows_times_longest_row() -> None:
    """Bytes are counted for the rectangle and its growth, not for the sum of rows."""
    assert gate().area(3, 257) == 3 * (257 + GROWTH - 1) * BYTES
    assert gate().live_area(waiting(10, 257, 20)) == gate().area(3, 257)


def test_rows_of_like_length_are_preferred() -> None:
    """A long newcomer that would stretch every row lets shorter ones behind it go first."""
    line = waiting(10, 60, 20, 30)
    assert names(chosen(gate(square=(3, 30)), line, [])) == ["0", "2", "3"]


def test_the_first_comes_first() -> None:
    """When rows are short the first in line is among those chosen, however long it is."""
    line = waiting(1000, 10, 20)
    assert names(chosen(gate(max_rows=1), line, [])) == ["0"]


def test_someone_passed_over_too_often_is_waited_for() -> None:
    """A first row that does not fit is passed by at most max_rows others; then nobody joins until it fits."""
    keeper = gate(max_rows=3, square=(3, 30))
    live = waiting(10, 10)
    long = waiting(300)[0]
    for turn in range(3):
        line = [long, *waiting(20)]
        assert chosen(keeper, line, live) == line[1:], turn
        keeper.note(line, line[1:])
    assert chosen(keeper, [long, *waiting(20)], live) == []
    assert chosen(keeper, [long, *waiting(20)], []) == [long]


def test_short_prompts_are_computed_first() -> None:
    """Those chosen come ordered by prompt, because neighbours of like length waste least padding."""
    backend = FakeBackend()
    line = [Sequence(job("n", "x" * size), backend.detokenizer()) for size in (30, 10, 20)]
    joining = chosen(gate(), line, [])
    assert [len(sequence.admission.tokens) for sequence in joining] == [12, 22, 32]


def test_what_can_never_run_is_refused_with_a_reason() -> None:
    """Empty prompts, foreign tokens, too long rows and rows larger than the batch have each their type."""
    keeper = gate(square=(1, 1500))
    empty, foreign = job("a"), job("a")
    object.__setattr__(empty, "tokens", [])
    object.__setattr__(foreign, "tokens", [999])
    refusals = [
        keeper.refuses(empty),
        keeper.refuses(foreign),
        keeper.refuses(job("a", max_tokens=5000)),
        keeper.refuses(job("a", max_tokens=2000)),
        keeper.refuses(job("a", max_tokens=1000)),
    ]
    assert [refusal and refusal[0] for refusal in refusals] == [
        "invalid_prompt",
        "invalid_prompt",
        "context_length",
        "batch_bytes",
        None,
    ]


def test_a_row_larger_than_one_job_may_be_is_refused() -> None:
    """The message names the setting and both numbers; 0 leaves a row as many bytes as the batch."""
    size = (1003 + GROWTH - 1) * BYTES
    small = gate(max_row_bytes=size - 1).refuses(job("a", max_tokens=1000))
    assert small is not None
    assert small[0] == "row_bytes"
    assert all(word in small[1] for word in ("engine.max_row_bytes", str(size), str(size - 1)))
    assert gate(max_row_bytes=size).refuses(job("a", max_tokens=1000)) is None
    assert gate(max_row_bytes=0).refuses(job("a", max_tokens=1000)) is None


def test_better_classes_are_asked_first() -> None:
    """Whoever came first, the better class joins, and is read first."""
    urgent = Sequence(job("u", "x" * 20, max_tokens=5, priority=0), FakeBackend().detokenizer())
    line = [*waiting(20, 20, priority=2), *waiting(20, priority=1), urgent]
    assert chosen(gate(max_rows=2), line, []) == [line[3], line[2]]


def test_nobody_joins_before_one_of_a_better_class() -> None:
    """While one that does not fit waits, rows of worse classes wait with it; those of its own pass by."""
    keeper = gate(square=(3, 30))
    live = waiting(10, 10, priority=0)
    line = [*waiting(10, priority=2), *waiting(300, 20, priority=1)]
    assert chosen(keeper, line, live) == [line[2]]
    assert chosen(keeper, line[:2], live) == []
    assert chosen(keeper, line[:1], live) == line[:1]


def test_being_passed_over_counts_within_a_class() -> None:
    """Rows of a better class that join do not count, those of the same class do."""
    keeper = gate()
    line = [*waiting(300, 20, 20, priority=1), *waiting(10, priority=0)]
    keeper.note(line, line[3:])
    assert line[0].passed_over == 0
    keeper.note(line, line[1:])
    assert line[0].passed_over == 2


def test_no_more_rows_than_at_present() -> None:
    """After a shortage of memory fewer rows are let in, and more again when it is over."""
    keeper = gate()
    keeper.rows.shrink(5)
    assert len(chosen(keeper, waiting(*[10] * 8), [])) == 2
    keeper.rows.restore()
    assert len(chosen(keeper, waiting(*[10] * 8), [])) == 8

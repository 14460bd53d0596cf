"""The engine's step: order, joining, ends, stops, cancels, deadlines, usage."""

from __future__ import annotations

import pytest

from workers.backends.fake import FakeBackend
from workers.engine import Delta, Engine, Failed, Finished, Limits, Withdrawn

from .batches import failed, fake_engine, finished, job, result_of, run, shown, started, step


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time set."""
        return self.now


def test_jobs_of_one_call_are_admitted_together() -> None:
    """All that fit start at the same step."""
    engine, _ = fake_engine()
    engine.submit([job(f"{n}") for n in range(10)])
    assert started(engine.step()) == [f"{n}" for n in range(10)]


def test_others_join_while_the_batch_runs() -> None:
    """A newcomer starts at the next step, and shares decoding steps with those who are there."""
    engine, _ = fake_engine(endless=True)
    engine.submit([job("early", max_tokens=40)])
    step(engine, 5)
    engine.submit([job("late", max_tokens=40)])
    assert started(engine.step()) == ["late"]
    told = run(engine)
    assert set(finished(told)) == {"early", "late"}
    assert engine.stats().decode_steps < 80


def test_no_more_rows_than_the_limit_decode_together() -> None:
    """Those who do not fit wait and start when others end."""
    engine, _ = fake_engine(Limits(max_rows=3, max_batch_bytes=1 << 30))
    engine.submit([job(f"{n}", max_tokens=5) for n in range(8)])
    assert started(engine.step()) == ["0", "1", "2"]
    assert engine.stats().waiting == 5
    assert set(finished(run(engine))) == {str(n) for n in range(3)} | {str(n) for n in range(3, 8)}


def test_a_row_ends_by_itself_or_by_its_length() -> None:
    """The end-of-sequence token is no part of the result; max_tokens is a limit for each row."""
    engine, _ = fake_engine(reply_tokens=12)
    done = finished(run(engine, job("stops", max_tokens=50), job("is-cut", max_tokens=7)))
    assert (done["stops"].finish_reason, done["stops"].completion_tokens) == ("stop", 12)
    assert (done["is-cut"].finish_reason, done["is-cut"].completion_tokens) == ("length", 7)
    assert len(done["stops"].token_ids) == 12


def test_usage_counts_prompt_and_completion() -> None:
    """Prompt tokens are those handed in, completion tokens those kept, cached ones none yet."""
    admission = job("a", "some prompt", max_tokens=9)
    done = result_of(admission, endless=True)
    assert (done.prompt_tokens, done.completion_tokens) == (len(admission.tokens), 9)
    assert done.cached_tokens == 0


def test_the_deltas_join_to_the_text() -> None:
    """What was shown while the job ran is its text, and no token is counted in two deltas."""
    engine, _ = fake_engine()
    told = run(engine, *(job(f"{n}", max_tokens=64) for n in range(6)))
    for name, end in finished(told).items():
        assert shown(told, name) == end.text
        counted = sum(
            output.n_tokens for output in told if isinstance(output, Delta) and output.job_id == name
        )
        assert counted <= end.completion_tokens


def test_text_held_back_is_shown_at_the_end() -> None:
    """A row cut in the middle of what might have been a stop string shows it before it ends."""
    plain = result_of(job("a", "prompt", max_tokens=12), endless=True)
    engine, _ = fake_engine(endless=True)
    told = run(engine, job("a", "prompt", max_tokens=12, stop=(plain.text[-3:] + "never",)))
    assert shown(told, "a") == finished(told)["a"].text == plain.text


def test_each_job_starts_once_and_ends_once() -> None:
    """Started comes before all else, an end comes last, and each exactly once."""
    engine, _ = fake_engine(fail_steps=[4])
    told = run(engine, *(job(f"{n}") for n in range(5)))
    for name in map(str, range(5)):
        kinds = [type(output).__name__ for output in told if output.job_id == name]
        assert kinds[0] == "Started"
        assert kinds[-1] == "Finished"
        assert kinds.count("Started") == kinds.count("Finished") == 1


def test_rows_do_not_disturb_each_other() -> None:
    """A job's result is the same alone and in a crowd of others with other settings."""
    engine, _ = fake_engine()
    crowd = [job(f"{n}", max_tokens=5 + n, temperature=n / 10, seed=n) for n in range(12)]
    done = finished(run(engine, *crowd))
    for admission in crowd:
        assert done[admission.job_id] == result_of(admission)


def test_a_stop_string_ends_its_row_alone() -> None:
    """The row ends before its stop string, at once, and the others go on."""
    plain = result_of(job("a", "prompt", max_tokens=60), endless=True)
    word = plain.text[10:14]
    engine, backend = fake_engine(endless=True)
    engine.submit(
        [job("stopped", "prompt", max_tokens=60, stop=(word,)), job("free", "prompt", max_tokens=60)]
    )
    told = run(engine)
    done = finished(told)
    assert done["stopped"].finish_reason == "stop"
    assert done["stopped"].text == plain.text[: plain.text.index(word)] == shown(told, "stopped")
    assert done["free"].text == plain.text
    assert backend.live_bytes() == 0


@pytest.mark.parametrize("reason", ["cancelled", "timeout"])
def test_a_cancelled_row_leaves_at_the_next_step_with_what_it_has(reason: str) -> None:
    """Cancel takes effect at the next step; text and tokens so far are kept, the others go on."""
    engine, _ = fake_engine(endless=True)
    engine.submit([job("cancelled", max_tokens=100), job("other", max_tokens=30)])
    told = step(engine, 10)
    engine.cancel("cancelled", 1, reason)  # type: ignore[arg-type] # both values are valid
    told += engine.step()
    end = finished(told)["cancelled"]
    assert end.finish_reason == reason
    assert end.completion_tokens == 9
    assert end.text == shown(told, "cancelled")
    assert end.text
    assert finished(run(engine))["other"].completion_tokens == 30


def test_a_waiting_job_can_be_cancelled() -> None:
    """It never had a row: no tokens, no prompt to pay for."""
    engine, _ = fake_engine(Limits(max_rows=1, max_batch_bytes=1 << 30), endless=True)
    engine.submit([job("runs", max_tokens=50), job("waits")])
    engine.step()
    engine.cancel("waits", 1)
    end = finished(engine.step())["waits"]
    assert (end.finish_reason, end.text, end.prompt_tokens, end.completion_tokens) == ("cancelled", "", 0, 0)


def test_cancelling_another_fence_changes_nothing() -> None:
    """A cancel that means an earlier attempt leaves the present one alone."""
    engine, _ = fake_engine()
    engine.submit([job("a", max_tokens=5)])
    engine.cancel("a", 7)
    assert finished(run(engine))["a"].finish_reason == "length"


def test_a_deadline_ends_its_row_alone() -> None:
    """A row past its deadline ends as timeout at the next step, waiting or live."""
    clock = Clock()
    backend = FakeBackend()
    engine = Engine(backend, Limits(max_rows=2, max_batch_bytes=1 << 30), clock)
    engine.submit([job("late", deadline=105.0), job("free"), job("waits", deadline=105.0)])
    told = step(engine, 4)
    assert finished(told) == {}
    clock.now = 105.0
    ends = finished(engine.step())
    assert {name: end.finish_reason for name, end in ends.items()} == {"late": "timeout", "waits": "timeout"}
    assert (ends["late"].completion_tokens, ends["waits"].completion_tokens) == (3, 0)
    assert finished(run(engine))["free"].finish_reason in {"stop", "length"}


@pytest.mark.parametrize(
    ("deadline", "expires", "reason"),
    [(None, 105.0, "expired"), (104.0, 105.0, "timeout"), (105.0, 104.0, "expired")],
)
def test_an_expired_row_ends_with_what_it_has(deadline: float | None, expires: float, reason: str) -> None:
    """It keeps its text, waiting or live; of two instants that have passed the earlier one counts."""
    clock = Clock()
    engine = Engine(FakeBackend(), Limits(max_rows=2, max_batch_bytes=1 << 30), clock)
    engine.submit([job(name, deadline=deadline, expires=expires, max_tokens=90) for name in "abc"])
    engine.submit([job("free", expires=106.0, max_tokens=5)])
    told = step(engine, 4)
    clock.now = 103.9
    told += engine.step()
    assert finished(told) == {}
    clock.now = 105.0
    told += engine.step()
    ends = finished(told)
    assert {name: end.finish_reason for name, end in ends.items()} == dict.fromkeys("abc", reason)
    assert [ends[name].completion_tokens for name in "abc"] == [4, 4, 0]
    assert ends["a"].text == shown(told, "a") != ""
    assert finished(run(engine))["free"].finish_reason == "length"


def test_a_cancel_goes_before_what_has_passed() -> None:
    """A job that was cancelled ends as cancelled, also when it expires in the same moment."""
    engine, _ = fake_engine()
    engine.submit([job("a", expires=0.0)])
    engine.cancel("a", 1)
    assert finished(engine.step())["a"].finish_reason == "cancelled"


def test_withdrawn_tokens_continue_without_being_counted_or_shown_twice() -> None:
    """A job taken out and admitted again with its tokens ends as if it had never been taken out."""
    whole = result_of(job("a", "prompt", max_tokens=40, temperature=0.8, seed=5), endless=True)
    engine, _ = fake_engine(endless=True)
    engine.submit([job("a", "prompt", max_tokens=40, temperature=0.8, seed=5)])
    before = step(engine, 18)
    (gone,) = engine.withdraw_all()
    assert engine.held == 0
    engine.check_integrity()
    again = job("a", "prompt", prior=gone.token_ids, max_tokens=40, temperature=0.8, seed=5)
    after = run(engine, again)
    assert shown(before, "a") + shown(after, "a") == whole.text
    assert finished(after)["a"] == whole


def test_prior_tokens_may_already_be_the_whole_result() -> None:
    """A job whose prior tokens fill max_tokens, or hold a stop string, ends without being decoded."""
    engine, backend = fake_engine()
    told = run(
        engine,
        job("full", prior=list(b"abc"), max_tokens=3),
        job("stopped", prior=list(b"abc"), max_tokens=9, stop=("b",)),
    )
    ends = finished(told)
    assert (ends["full"].finish_reason, ends["full"].text) == ("length", "abc")
    assert (ends["stopped"].finish_reason, ends["stopped"].text) == ("stop", "a")
    assert backend.steps == 0


def test_withdraw_all_empties_the_engine() -> None:
    """Waiting and live jobs come back, each with its tokens, and nothing is left."""
    engine, backend = fake_engine(Limits(max_rows=2, max_batch_bytes=1 << 30), endless=True)
    engine.submit([job(f"{n}", max_tokens=50) for n in range(4)])
    step(engine, 6)
    gone = engine.withdraw_all()
    assert [(output.job_id, len(output.token_ids)) for output in gone] == [
        ("0", 5),
        ("1", 5),
        ("2", 0),
        ("3", 0),
    ]
    assert all(isinstance(output, Withdrawn) for output in gone)
    engine.check_integrity()
    assert (engine.held, backend.live_bytes()) == (0, 0)


def test_what_can_never_run_fails_for_good() -> None:
    """A job too long for the context fails with a type and a reason, and takes nobody with it."""
    engine, _ = fake_engine(context_length=100)
    told = run(engine, job("long", max_tokens=200), job("short", max_tokens=5))
    failure = failed(told)["long"]
    assert (failure.type, failure.retryable) == ("context_length", False)
    assert "200 to generate" in failure.message
    assert isinstance(told[-1], Finished)


def test_the_same_attempt_is_taken_once() -> None:
    """Handing an attempt over twice changes nothing."""
    engine, _ = fake_engine()
    admission = job("a", max_tokens=5)
    told = run(engine, admission, admission)
    assert len([output for output in told if isinstance(output, Finished)]) == 1


def test_a_row_that_the_backend_refuses_fails_alone() -> None:
    """When rows are refused together the bad one is found, and the others start."""
    engine, _ = fake_engine(refuse="bad")
    told = run(engine, *(job(f"{n}", "bad" if n == 3 else "good", max_tokens=5) for n in range(6)))
    assert list(failed(told)) == ["3"]
    assert failed(told)["3"].retryable
    assert len(finished(told)) == 5


def test_a_row_that_the_backend_gives_up_fails_alone() -> None:
    """A row that failed inside the backend ends its own job."""
    engine, _ = fake_engine(spoil="bad")
    told = run(engine, job("a", "bad"), job("b", "good", max_tokens=5))
    assert (failed(told)["a"].type, list(finished(told))) == ("row_error", ["b"])


def test_a_detokenizer_that_breaks_fails_its_row_alone() -> None:
    """An error in one row's text ends that row, and its place in the batch is given back."""

    class Broken:
        def push(self, token: int) -> str:
            raise ArithmeticError(f"no text for {token // 1000}")

        def flush(self) -> str:
            return ""

    engine, backend = fake_engine(endless=True)
    made = iter([Broken(), backend.detokenizer()])
    backend.detokenizer = lambda: next(made)  # type: ignore[method-assign,assignment,return-value] # for the test
    told = run(engine, job("bad", max_tokens=5), job("good", max_tokens=5))
    assert failed(told)["bad"] == Failed("bad", 1, "row_error", "ArithmeticError: no text for 0", True)
    assert list(finished(told)) == ["good"]


def test_stats_count_what_was_done() -> None:
    """Totals and the present state of the batch."""
    engine, _ = fake_engine(endless=True)
    engine.submit([job("a", "xx", max_tokens=4), job("b", "xx", max_tokens=6)])
    step(engine, 3)
    now = engine.stats()
    assert (now.rows, now.waiting) == (2, 0)
    assert now.live_bytes == 2 * 256 * 64
    run(engine)
    end = engine.stats()
    assert (end.decoded_tokens, end.decode_steps, end.prefill_tokens) == (10, 6, 8)
    assert (end.rows, end.live_bytes) == (0, 0)


def test_broken_books_are_noticed() -> None:
    """A row that the backend lost, or a token that is not its own, fails the check of integrity."""
    engine, backend = fake_engine(endless=True)
    engine.submit([job("a", max_tokens=20)])
    step(engine, 3)
    engine.check_integrity()
    row = next(iter(backend._rows.values()))
    row.contents[-1] ^= 1
    with pytest.raises(AssertionError, match="not its own"):
        engine.check_integrity()
    backend._rows.clear()
    with pytest.raises(AssertionError, match="expected"):
        engine.check_integrity()

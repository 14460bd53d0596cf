"""How much of the prompts is computed beside rows that decode."""

from __future__ import annotations

from workers.engine.prefill import LEAST, PrefillPace


def test_a_piece_is_whole_while_nobody_decodes() -> None:
    """Nobody waits for it then."""
    pace = PrefillPace(most=512, stall=4)
    pace.learn(1.0, decoded=0, prefilled=512)
    assert pace.piece(decoding=0, reading=3) == 512


def test_a_piece_takes_no_longer_than_some_steps() -> None:
    """Four steps of 10 ms are worth 40 tokens of 1 ms, rounded down, and are shared by all prompts."""
    pace = PrefillPace(most=512, stall=4)
    pace.learn(0.512, decoded=0, prefilled=512)
    pace.learn(0.010, decoded=5, prefilled=0)
    assert pace.piece(decoding=5, reading=1) == 32
    assert pace.piece(decoding=5, reading=2) == LEAST


def test_a_piece_is_never_so_small_that_nothing_moves() -> None:
    """However slow the prompt is, it goes on."""
    pace = PrefillPace(most=512, stall=1)
    pace.learn(100.0, decoded=0, prefilled=100)
    pace.learn(0.001, decoded=1, prefilled=0)
    assert pace.piece(decoding=1, reading=8) == LEAST


def test_the_first_piece_beside_others_is_small() -> None:
    """Before anything is known it might take very long."""
    assert PrefillPace(most=512, stall=4).piece(decoding=1, reading=1) == 4 * LEAST


def test_what_a_token_takes_is_learnt_beside_decoding_too() -> None:
    """The time of the decoding itself is taken off: 60 ms of which 20 ms decode leave 1 ms for each of 40."""
    pace = PrefillPace(most=512, stall=4)
    pace.learn(0.020, decoded=2, prefilled=0)
    pace.learn(0.060, decoded=2, prefilled=40)
    assert pace.token_seconds is not None
    assert abs(pace.token_seconds - 0.001) < 1e-9


def test_a_prompt_that_grows_slower_gets_smaller_pieces() -> None:
    """Attention costs more the longer a prompt is; the pieces follow."""
    pace = PrefillPace(most=512, stall=4)
    pace.learn(0.010, decoded=1, prefilled=0)
    pace.learn(0.010, decoded=0, prefilled=100)
    first = pace.piece(decoding=1, reading=1)
    for _ in range(20):
        pace.learn(0.010 + 0.1, decoded=1, prefilled=100)
    assert pace.piece(decoding=1, reading=1) < first

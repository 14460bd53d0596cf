"""MLX beneath the engine: faults, threads, and the trained pico."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from config.settings import Engine as EngineSettings
from models.requests import Sampling
from tests.workers.engine.batches import ROOMY, failed, finished, run, step, user
from workers.backends.loading import BUILTIN
from workers.cache.prefix import Piece, Prefix
from workers.engine import Admission, Engine, PromptRefused, Row

from .llms import SETTINGS, Apart, apart, decode, save_tiny_llm

ENDS_CLEANLY = """
import sys
from config.settings import Engine
from models.requests import Sampling
from workers.backends.mlx import MlxBackend
from workers.cache.prefix import Piece, Prefix
from workers.engine import Admission, EngineThread, Limits
import queue
told = queue.Queue()
thread = EngineThread(lambda: MlxBackend(sys.argv[1], Engine(), "tiny"), Limits(4, 1 << 30), told.put)
thread.start()
thread.ready(60)
thread.submit([Admission("a", 1, [5, 6, 7], Sampling(max_tokens=6))])
assert thread.drain(60) and thread.stop(60), thread.dead
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM."""
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[Apart]:
    """The tiny LLM on MLX."""
    backend = apart("mlx", folder)
    yield backend
    backend.close()


def engine_over(backend: Apart) -> Engine:
    """An engine over a backend in another thread, without the rows of the last test."""
    backend.reset()
    return Engine(backend, replace(ROOMY, prefill_tokens=SETTINGS.prefill_tokens))


def jobs(backend: Apart, count: int, **sampling: Any) -> list[Admission]:
    """So many jobs with different prompts and seeds."""
    return [
        Admission(
            f"{n}", 1, backend.encode(user(f"number {n}")), Sampling(seed=n, temperature=1.0, **sampling)
        )
        for n in range(count)
    ]


def test_a_broken_step_is_repaired(tiny: Apart) -> None:
    """When the network fails in the middle, all rows come back and seeded ones draw what they would have."""
    whole = finished(run(engine_over(tiny), *jobs(tiny, 6, max_tokens=24)))
    engine = engine_over(tiny)
    engine.submit(jobs(tiny, 6, max_tokens=24))
    told = step(engine, 9)

    broken: list[Any] = []

    def break_once(backend: Any) -> None:
        broken.append(generator := backend._batch._generator)
        real, generator.model = generator._generation_batch.model, None
        generator._generation_batch.model = None
        assert real is backend._llm.model

    tiny.do(break_once)
    told += run(engine)
    assert tiny.do(lambda backend: backend._batch._generator) not in broken
    assert {name: end.token_ids for name, end in finished(told).items()} == {
        name: end.token_ids for name, end in whole.items()
    }


def test_a_shortage_of_memory_makes_the_batch_smaller(tiny: Apart) -> None:
    """Half of the rows go on from their tokens, the others follow, and all draw what they would have."""
    whole = finished(run(engine_over(tiny), *jobs(tiny, 6, max_tokens=24)))
    engine = engine_over(tiny)
    engine.submit(jobs(tiny, 6, max_tokens=24))
    told = step(engine, 9)

    def starve(backend: Any) -> None:
        def fail() -> None:
            raise RuntimeError("[metal::malloc] Attempting to allocate 48736917632 bytes")

        backend._batch._generator.next = fail

    tiny.do(starve)
    told += step(engine, 2)
    assert (engine.stats().rows, engine.stats().waiting) == (3, 3)
    told += run(engine)
    assert {name: end.token_ids for name, end in finished(told).items()} == {
        name: end.token_ids for name, end in whole.items()
    }


def test_a_prompt_that_is_being_read_can_be_cancelled(tiny: Apart) -> None:
    """The row leaves at the next step, and those beside it end as always."""
    engine = engine_over(tiny)
    long = Admission("long", 1, tiny.encode(user("water " * 200)), Sampling(max_tokens=5))
    engine.submit([long, *jobs(tiny, 2, max_tokens=12)])
    step(engine, 3)
    engine.check_integrity()
    engine.cancel("long", 1)
    told = run(engine)
    assert finished(told)["long"].finish_reason == "cancelled"
    assert finished(told)["long"].completion_tokens == 0
    assert finished(told)["1"].completion_tokens == 12


def test_a_stop_string_is_found_across_tokens(tiny: Apart) -> None:
    """A stop string that spans tokens ends the text before it."""
    (job,) = jobs(tiny, 1, max_tokens=60)
    plain = finished(run(engine_over(tiny), job))["0"].text
    word = plain[9:13]
    sampling = job.sampling.model_copy(update={"stop": (word,)})
    end = finished(run(engine_over(tiny), Admission("0", 1, job.tokens, sampling)))["0"]
    assert (end.text, end.finish_reason) == (plain[: plain.index(word)], "stop")


def test_a_token_outside_the_vocabulary_fails_its_own_job(tiny: Apart) -> None:
    """It never reaches the network, where it would read foreign memory."""
    bad = Admission("bad", 1, [1, 2, 100_000], Sampling(max_tokens=5))
    told = run(engine_over(tiny), bad, *jobs(tiny, 1, max_tokens=5))
    assert failed(told)["bad"].type == "invalid_prompt"
    assert list(finished(told)) == ["0"]


def test_messages_that_the_template_refuses_have_a_reason(tiny: Apart) -> None:
    """The chat template's own words reach the job's owner."""
    system = user("be brief")[0].model_copy(update={"role": "system"})
    with pytest.raises(PromptRefused, match="a system message must come first"):
        tiny.inner.encode((*user("hello"), system))


def test_no_broken_character_is_shown(tiny: Apart) -> None:
    """Random tokens make random bytes; what is shown is whole, and an unfinished end is dropped."""
    ends = finished(run(engine_over(tiny), *jobs(tiny, 8, max_tokens=40)))
    for end in ends.values():
        assert end.text.encode()
        assert not end.text.endswith("\ufffd")


@pytest.mark.slow
def test_a_process_that_stopped_its_engine_ends_cleanly(folder: Path) -> None:
    """MLX's threads do not abort the process on its way out."""
    command = [sys.executable, "-c", ENDS_CLEANLY, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def pico() -> Iterator[Apart]:
    """The trained LLM that comes with the project."""
    backend = apart("mlx", f"{BUILTIN}pico")
    yield backend
    backend.close()


@pytest.mark.slow
def test_pico_writes_the_same_in_any_company(pico: Apart) -> None:
    """Greedy parity of a trained LLM: alone and in a batch with joins, a row has the same tokens."""
    prompts = [
        pico.encode(user(f'10.0.0.{n} - - [12/Mar/2024:10:0{n}:11 +0000] "GET /a{n} HTTP/1.1" 200 {n}17'))
        for n in range(6)
    ]
    rows = [Row(prompt, 0, 24, Sampling(max_tokens=24)) for prompt in prompts]
    alone = [decode(pico, pico.add([row]))[uid] for uid, row in enumerate(rows)]
    uids = pico.add(rows[:3])
    pico.step(32)
    pico.step(32)
    uids += pico.add(rows[3:])
    together = decode(pico, uids)
    assert [together[uid] for uid in uids] == alone


def log_lines(seed: int, count: int) -> str:
    """Lines as pico was trained on."""
    draw = random.Random(seed)
    return "\n".join(
        f"10.0.{seed}.{n} - - [12/Mar/2024:10:0{n % 10}:11 +0000] "
        f'"GET /{draw.randrange(99)} HTTP/1.1" {draw.choice((200, 404, 500))} {draw.randrange(9999)}'
        for n in range(count)
    )


def kept_of(pico: Apart, tokens: list[int], stop: int, first: int) -> Prefix:
    """Have a prompt computed with one more token, and keep its beginning in blocks of 256."""
    (uid,) = pico.add([Row(tokens, 0, 1, Sampling())])
    decode(pico, [uid])
    edges = [*range(0, stop, 256), stop]
    pieces = tuple(Piece(first + n, *pair) for n, pair in enumerate(pairwise(edges)))
    pico.keep(uid, pieces)
    return Prefix(stop, pieces)


@pytest.mark.slow
def test_pico_writes_the_same_behind_a_cached_prefix(pico: Apart) -> None:
    """Greedy parity of a trained LLM: cold alone, warm alone, and warm in a batch of unlike prefixes."""
    shares = (0.99, 0.1, 0.5, 0.9)
    prompts = [pico.encode(user(log_lines(seed, 3 + 2 * seed))) for seed in range(len(shares))]
    assert len(prompts[-1]) > 256
    cold = [decode(pico, pico.add([Row(one, 0, 12, Sampling())])) for one in prompts]
    rows = []
    for number, (tokens, share) in enumerate(zip(prompts, shares, strict=True)):
        prefix = kept_of(pico, tokens, int(len(tokens) * share), 1 + 20 * number)
        rows.append(Row(tokens, 0, 12, Sampling(), prefix))
    expected = [tokens for one in cold for tokens in one.values()]
    alone = [tokens for one in rows for tokens in decode(pico, pico.add([one])).values()]
    assert alone == expected
    uids = pico.add(rows[:3])
    begun = [(uid, token) for _ in range(2) for uid, token, _ in pico.step(512).tokens]
    uids += pico.add(rows[3:])
    together = decode(pico, uids)
    for uid, tokens in zip(uids, expected, strict=True):
        assert [*(token for other, token in begun if other == uid), *together[uid]] == tokens
    pico.drop(range(200))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "least"), [(8, 0.97), (4, 0.5)])
def test_pico_writes_nearly_the_same_from_quantized_blocks(bits: Literal[8, 4], least: float) -> None:
    """Blocks of fewer bits are smaller, and most tokens behind them are the same."""
    pico = apart("mlx", f"{BUILTIN}pico", EngineSettings(pool_bits=bits))
    try:
        same = total = 0
        for seed in range(3):
            tokens = pico.encode(user(log_lines(seed, 8)))
            (cold,) = decode(pico, pico.add([Row(tokens, 0, 16, Sampling())])).values()
            prefix = kept_of(pico, tokens, len(tokens) - 20, 1 + 20 * seed)
            (warm,) = decode(pico, pico.add([Row(tokens, 0, 16, Sampling(), prefix)])).values()
            same += sum(one == other for one, other in zip(cold, warm, strict=False))
            total += len(cold)
        spec = pico.info.spec
        assert spec.block_bytes() == spec.token_bytes * 256 * (bits / 8 + 1 / 8) / 4
        assert same / total >= least
    finally:
        pico.close()

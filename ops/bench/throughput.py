"""Service ÷ bare engine: tokens/s of many jobs through HTTP, queue and database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ops.bench.figure import Effort, Figure
from ops.bench.llms import LLAMA, endless_pico, parameters, random_llama
from ops.bench.partner import Partner, bare
from ops.bench.statistics import Pair, alternate
from ops.client import WAIT_SECONDS, Client
from ops.complaint import Complaint
from ops.doctor.device import device_kind
from ops.lines import load_lines
from ops.service import Service

TARGET = 0.90
WARM_TOKENS = 8
INSTRUCTION = "Answer with the fields of the line as JSON."

Chat = list[dict[str, str]]


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """One figure for pico, one for the random Llama."""
    on_cpu = device_kind() == "CPU"
    pico = endless_pico(folder / "pico")
    yield _figure("pico", pico, effort, folder)
    shape = replace(LLAMA, layers=effort.layers)
    llama = random_llama(folder / "llama", shape, "float32" if on_cpu else "float16")
    size = round(parameters(shape) / 1e6)
    yield _figure(f"random Llama of {size} M", llama, effort, folder)


def _figure(name: str, llm: Path, effort: Effort, folder: Path) -> Figure:
    pair = _compare(llm, effort, folder / f"service-{llm.name}")
    return Figure(
        name=f"service ÷ bare engine, {name}",
        value=pair.ratio,
        unit="",
        bound="at least",
        target=TARGET,
        details={"tokens_per_second": {"service": pair.ours, "bare": pair.yardstick}, "jobs": effort.rows,
                 "tokens_each": effort.tokens},
    )  # fmt: skip


def _compare(llm: Path, effort: Effort, folder: Path) -> Pair:
    """Both are loaded and warm while either is measured; the other one waits and does nothing."""
    asked = chats(effort.rows)
    with (
        Service(folder, {"llms.pico.path": str(llm)}) as service,
        bare(llm) as engine,
        service.client() as client,
    ):

        def ours() -> float:
            return through_service(client, asked, effort.tokens)

        def yardstick() -> float:
            return through_engine(engine, asked, effort.tokens)

        # Kernels are compiled and files are read at first use; a few tokens of each row are enough.
        through_service(client, asked, WARM_TOKENS)
        through_engine(engine, asked, WARM_TOKENS)
        return alternate(effort.rounds, ours, yardstick)


def chats(count: int) -> list[Chat]:
    """Short conversations about real lines, each another one as long as there are enough."""
    lines = load_lines()
    return [
        [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": lines[at * len(lines) // count].text},
        ]
        for at in range(count)
    ]


def through_service(client: Client, asked: Sequence[Chat], tokens: int) -> float:
    """Tokens/s from the submission of a bulk to the last result in the client's hands."""
    begun = time.perf_counter()
    bulk = client.bulk({"messages": chat, "max_tokens": tokens} for chat in asked)
    while not bulk["ended"]:
        bulk = client.bulk_state(bulk["id"], wait=WAIT_SECONDS)
    jobs = list(client.jobs(bulk=bulk["id"]))
    passed = time.perf_counter() - begun
    made = sum(job["usage"]["completion_tokens"] for job in jobs)
    _check(made, len(asked) * tokens)
    return made / passed


def through_engine(engine: Partner, asked: Sequence[Chat], tokens: int) -> float:
    """Tokens/s of the bare engine for the same prompts."""
    answer = engine.ask({"chats": asked, "max_tokens": tokens})
    _check(answer["tokens"], len(asked) * tokens)
    return float(answer["tokens"] / answer["seconds"])


def _check(made: int, wanted: int) -> None:
    if made != wanted:
        raise Complaint(f"{made} tokens were generated where {wanted} were wanted: the runs do not compare.")

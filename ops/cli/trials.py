"""``penstock demo`` and ``penstock bench``: the service shows what it can do."""

from __future__ import annotations

import signal
from dataclasses import replace
from json import dumps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.invocation import Invocation, serving
from ops.cli.options import DataDir, Json, LlmPath
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.show import document, say, styled, table

if TYPE_CHECKING:
    from ops.bench import Figure

Keep = Annotated[bool, typer.Option("--keep", help="Keep the data directory.")]
Jobs = Annotated[int, typer.Option("--jobs", min=100, help="How many real lines to submit.")]

Sections = Annotated[
    list[str] | None,
    typer.Argument(help="pickup, submit, throughput, engine, queue, soak; all of them if none is named."),
]
Quick = Annotated[bool, typer.Option("--quick", help="A smoke run of a minute; its figures mean nothing.")]
Soak = Annotated[
    float | None, typer.Option("--soak", min=0.1, help="Minutes of the section `soak`; 60 for its target.")
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        help="A part of the section `engine`, once for each: hold, reuse, first, decode, unique, gap, jobs, "
        "agents, restore.",
    ),
]
Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="Rounds of each measurement; 5 for medians.")
]
Measured = Annotated[
    str | None,
    typer.Option(
        "--llm",
        help="LLM of the section `engine`, instead of what suits the device: pico, 16m, 101m, 1b, 8b.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="File for all measurements, as JSON; default: bench.json, here."),
]


def demo(
    ctx: typer.Context,
    llm: LlmPath = None,
    jobs: Jobs = 108,
    keep: Keep = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Start a service in a temporary folder, submit real lines, wait, judge, stop."""
    call = Invocation.of(ctx, data_dir, json)
    from ops.demo import run, tables

    _stop_when_told()
    outcome = run(jobs, serving(llm), say, folder=call.data_dir, keep=keep)
    if call.json:
        document(tables.as_document(outcome))
    else:
        tables.show(outcome)
    if keep or call.data_dir is not None:
        say(f"Kept in {outcome.folder}")
    for reason in outcome.reasons:
        say(f"FAILED: {reason}")
    raise typer.Exit(1 if outcome.reasons else 0)


def bench(  # noqa: PLR0913, PLR0917 - each parameter is an option of the command line
    ctx: typer.Context,
    sections: Sections = None,
    quick: Quick = False,
    soak: Soak = None,
    parts: Parts = None,
    rounds: Rounds = None,
    llm: Measured = None,
    out: Out = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure throughput, pick-up, submissions, the engine, deep queues and memory against their targets."""
    call = Invocation.of(ctx, data_dir, json)
    from ops.bench import SECTIONS, Effort, as_document, machine, run
    from ops.doctor.device import SLOW_BLAS

    chosen = sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        known = ", ".join(SECTIONS)
        raise Complaint(f"There is no section {unknown[0]}: choose among {known}.", CONFIGURATION_ERROR)
    given: dict[str, Any] = {"soak_minutes": soak, "parts": tuple(parts or ()), "rounds": rounds, "llm": llm}
    effort = replace(
        Effort.quick() if quick else Effort(), **{name: value for name, value in given.items() if value}
    )
    file = out or Path("bench-quick.json" if quick else "bench.json")
    _stop_when_told()
    facts = machine()
    say(f"{facts['system']}, {facts['device']}, {facts['cores']} cores. {facts['note']}")
    if facts["blas"] == SLOW_BLAS and not quick:
        say("Without OpenBLAS the random Llama takes hours on a CPU; `penstock doctor` names the package.")
    figures: list[Figure] = []
    for figure in run(chosen, effort, say):
        figures.append(figure)
        say("  ".join(str(part) for part in _row(figure)))
        found = as_document(figures, effort, facts)  # at once: what follows may fail
        file.write_text(dumps(found, indent=2, default=str) + "\n", encoding="utf-8")
    if call.json:
        document(as_document(figures, effort, facts))
    else:
        table(None, ("figure", ">value", ">target", ""), [_row(figure) for figure in figures])
        if quick:
            print("\nA quick run: it shows that the benchmarks work, its figures mean nothing.")
    say(f"All measurements are in {file}")


def _stop_when_told() -> None:
    """Let SIGTERM unwind as Ctrl-C does: the service is stopped and its folder removed."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _row(figure: Figure) -> tuple[object, ...]:
    value = f"{figure.value:.3g}" if abs(figure.value) < 1000 else f"{figure.value:.0f}"
    told = f"{value} {figure.unit}".strip()
    if not figure.wanted:
        return figure.name, told, "", ""
    verdict = styled("met", "green") if figure.met else styled("missed", "red")
    return figure.name, told, f"{figure.wanted} {figure.unit}".strip(), verdict

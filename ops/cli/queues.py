"""``penstock queue``: looking at the queues, steering them and setting their windows, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json, Key, Url
from ops.show import document, seconds, table

queue = typer.Typer(
    help="Look at the queues; pause, drain and resume them, set their windows.", no_args_is_help=True
)

Window = Annotated[float, typer.Argument(metavar="MS", help="Milliseconds; 0 waits for nobody.")]
Llm = Annotated[str, typer.Argument(metavar="LLM", help="Alias of the LLM whose queue it is.")]


@queue.command("list")
def listed(
    ctx: typer.Context, url: Url = None, key: Key = None, data_dir: DataDir = None, json: Json = False
) -> None:
    """List the queues: what each does, and your jobs in it that have not ended."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        found = client.queues()
    if call.json:
        document(found)
        return
    columns = ("llm", "mode", "priority", ">queued", ">scheduled", ">running", ">oldest")
    table(None, columns, [_row(entry) for entry in found["data"]] + _empty(found))


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    counts = (entry[name] for name in ("queued", "scheduled", "running"))
    return (entry["llm"], entry["mode"], entry["priority"], *counts, seconds(entry["oldest_seconds"]))


def _empty(found: dict[str, Any]) -> list[tuple[object, ...]]:
    busy = {entry["llm"] for entry in found["data"]}
    rest = [entry for entry in found["modes"] if entry["llm"] not in busy]
    return [(entry["llm"], entry["mode"], "", 0, 0, 0, "") for entry in rest]


def _steering(act: str, what: str) -> None:
    """Make the command that lets one queue do something."""

    def command(
        ctx: typer.Context,
        llm: Llm,
        url: Url = None,
        key: Key = None,
        data_dir: DataDir = None,
        json: Json = False,
    ) -> None:
        call = Invocation.of(ctx, data_dir, json)
        with call.client(url, key) as client:
            found = client.steer(llm, act)
        if call.json:
            document(found)
        else:
            print(f"{found['llm']} {found['mode']}{' idle' if found['idle'] else ''}")

    queue.command(act, help=what)(command)


_steering("pause", "Begin no more jobs of an LLM; they are taken in and wait.")
_steering("drain", "Take no more jobs of an LLM in; work off those that wait.")
_steering("resume", "End a pause or a drain.")


@queue.command()
def window(
    ctx: typer.Context,
    llm: Llm,
    ms: Window,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Set how long the workers of an LLM gather arrivals before they begin them together."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        found = client.set_window(llm, ms)
    if call.json:
        document(found)
    else:
        print(f"{found['llm']} {found['mode']} window {found['window_ms']:g} ms")

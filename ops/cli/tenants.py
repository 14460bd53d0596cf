"""``penstock tenant``: shares, limits and sharing of tenants, straight in the database, without the API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json
from ops.complaint import Complaint
from ops.show import document, line, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings
    from models.database import Database
    from models.tenants import Tenant

tenant = typer.Typer(
    help="List tenants; set their shares and limits, and whether they share prefixes.", no_args_is_help=True
)

BREATH_SECONDS = 0.01
"""Between two transactions that move jobs, so that other writers come in between."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose share and limits.")]
Weight = Annotated[
    int | None, typer.Option("--weight", min=1, max=1_000_000, help="Share of each queue, beside others'.")
]
MaxRunning = Annotated[
    str | None,
    typer.Option("--max-running", metavar="N|none", help="Jobs that may run at once; 0 lets none begin."),
]
MaxWaiting = Annotated[
    str | None,
    typer.Option("--max-waiting", metavar="N|none", help="Jobs that may wait; none: as the settings say."),
]

SharesPrefixes = Annotated[
    bool | None,
    typer.Option(
        "--share-prefixes/--no-share-prefixes",
        help="Reuse what is computed of prompts together with other tenants that share.",
    ),
]


@tenant.command("list")
def listed(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """List tenants: shares, limits, and the jobs that count against these."""
    call = Invocation.of(ctx, data_dir, json)
    from models import counters, tenants
    from models.states import WAITING, State

    with call.database() as database, database.read() as session:
        found = {row.id: _said(row) | {"waiting": 0, "running": 0} for row in tenants.listed(session)}
        for (owner, _, _, state), count in counters.states(session).items():
            if owner in found and state in {*WAITING, State.RUNNING}:
                found[owner]["running" if state == State.RUNNING else "waiting"] += count
    if call.json:
        for row in found.values():
            line(row)
        return
    columns = ("tenant", ">weight", ">max running", ">max waiting", "shares prefixes", ">waiting", ">running")
    shown = ({**row, "shares_prefixes": _shown(row["shares_prefixes"])} for row in found.values())
    table(None, columns, [tuple(row.values()) for row in shown])


@tenant.command("set")
def change(
    ctx: typer.Context,
    name: Name,
    weight: Weight = None,
    max_running: MaxRunning = None,
    max_waiting: MaxWaiting = None,
    share_prefixes: SharesPrefixes = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Set the share or the limits of a tenant, or whether it shares; what is not named stays as it is."""
    call = Invocation.of(ctx, data_dir, json)
    given = {"weight": weight, "shares_prefixes": share_prefixes}
    values: dict[str, int | None] = {name: value for name, value in given.items() if value is not None}
    for limit, text in (("max_running", max_running), ("max_waiting", max_waiting)):
        if text is not None:
            values[limit] = _number(text, limit)
    if not values:
        options = "--weight, --max-running, --max-waiting or --[no-]share-prefixes"
        raise typer.BadParameter(f"say what to set: {options}")
    with call.database() as database:
        changed = _store(database, name, values)
        if "max_running" in values:
            _move(database, changed)
            _wake(call.settings, database)
    if call.json:
        document(_said(changed))
    else:
        _, *told = (f"{what.replace('_', ' ')} {_shown(value)}" for what, value in _said(changed).items())
        say(f"{name}: {', '.join(told)}.")


def _number(text: str, limit: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise typer.BadParameter(f"{text} is neither a number nor none", param_hint=f"--{limit}")
    return int(text)


def _shown(value: int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _said(row: Tenant) -> dict[str, Any]:
    return {
        "tenant": row.id,
        "weight": row.weight,
        "max_running": row.max_running,
        "max_waiting": row.max_waiting,
        "shares_prefixes": row.shares_prefixes,
    }


def _store(database: Database, name: str, values: Mapping[str, int | None]) -> Tenant:
    from models import audit, tenants
    from models.base import utcnow
    from ops.supervisor.preparation import CONSOLE

    with database.write() as session:
        changed = tenants.change(session, name, values)
        if changed is None:
            raise Complaint(
                f"There is no tenant {name}; `penstock tenant list` shows them, and "
                f"`penstock key create --tenant {name}` makes one."
            )
        audit.record(session, [audit.row(name, CONSOLE, "tenant.set", name, utcnow(), **values)])
    with database.write() as session:
        tenants.settle(session, name)
    return changed


def _move(database: Database, changed: Tenant) -> None:
    """Put what has not ended into the tenant's lane, until a walk through all of it finds nothing astray.

    New jobs go there already; those that are on their way are found by claims in either lane.
    """
    from models import lanes, tenants

    lane = tenants.lane_of(changed)
    moved = True
    while moved:
        moved = False
        for state in lanes.UNFINISHED:
            after = 0
            while True:
                with database.read() as session:
                    some = lanes.astray(session, changed.id, lane, state, after)
                if not some:
                    break
                after = some[-1][0]
                with database.write() as session:
                    moved |= lanes.move(session, [job_id for _, job_id in some], lane) > 0
                time.sleep(BREATH_SECONDS)


def _wake(settings: Settings, database: Database) -> None:
    """Tell the workers that other jobs may run than before."""
    from models import lanes, queues
    from workers.broker import make_broker, wake

    broker = make_broker(settings, database)
    try:
        with database.write() as session:
            for llm in settings.llms.keys() & set(lanes.llms(session)):
                first = queues.first_claimable(session, llm)
                if first is not None:
                    wake(broker, session, llm, [first[0]])
    finally:
        broker.close()

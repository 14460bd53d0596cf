"""All commands in one place; each file beside this one holds some of them."""

from __future__ import annotations

import typer

from ops.cli import agents, checks, copies, jobs, keys, processes, queues, submit, tenants, trials
from ops.cli.invocation import Shared
from ops.cli.options import DataDir, Json

app = typer.Typer(
    help="A durable queue of agent jobs in front of one batching MLX engine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def shared(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """A durable queue of agent jobs in front of one batching MLX engine."""
    ctx.obj = Shared(data_dir, json)


app.command()(processes.up)
app.command()(processes.api)
app.add_typer(processes.worker, name="worker")
app.command()(processes.migrate)
app.command()(submit.submit)
app.command()(jobs.jobs)
app.add_typer(jobs.job, name="job")
app.add_typer(agents.agent, name="agent")
app.add_typer(queues.queue, name="queue")
app.add_typer(keys.key, name="key")
app.add_typer(tenants.tenant, name="tenant")
app.command()(checks.doctor)
app.command()(checks.verify)
app.command()(copies.backup)
app.command()(copies.restore)
app.command()(trials.demo)
app.command()(trials.bench)

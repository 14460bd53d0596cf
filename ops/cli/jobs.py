"""``penstock jobs`` and ``penstock job``: looking at jobs and changing them, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json, Key, Url
from ops.show import STATE_STYLES, between, document, line, say, seconds, shortened, styled, table

if TYPE_CHECKING:
    from ops.wire import Job

job = typer.Typer(help="Look at one job, or change it.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
State = Annotated[list[str] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Only jobs of this agent.")]
Alias = Annotated[str | None, typer.Option("--llm", help="Only jobs for this LLM.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")]
Priority = Annotated[str | None, typer.Option("--priority", help="Only jobs of this class.")]
BulkId = Annotated[str | None, typer.Option("--bulk", help="Only jobs of this bulk.")]
Text = Annotated[str | None, typer.Option("--text", help="Only jobs whose id, error or request holds this.")]
After = Annotated[
    str | None, typer.Option("--created-after", metavar="TIME", help="Only jobs made at or after it.")
]
Before = Annotated[
    str | None, typer.Option("--created-before", metavar="TIME", help="Only jobs made before it.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")]


def jobs(  # noqa: PLR0913, PLR0917 - each parameter is an option of the command line
    ctx: typer.Context,
    state: State = None,
    agent: Agent = None,
    llm: Alias = None,
    tag: Tag = None,
    priority: Priority = None,
    bulk: BulkId = None,
    text: Text = None,
    created_after: After = None,
    created_before: Before = None,
    limit: Limit = 50,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List jobs, newest first; with --json one job a line."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        found = client.jobs(
            limit, state=state, agent=agent, llm=llm, tag=tag, priority=priority, bulk=bulk, text=text,
            created_after=created_after, created_before=created_before,
        )  # fmt: skip
        if call.json:
            for one in found:
                line(one)
            return
        columns = ("id", "state", "priority", "agent", "llm", ">wait", ">run", ">tokens", "result")
        table(None, columns, [_row(one) for one in found])


def _row(job: Job) -> tuple[object, ...]:
    said = job["result"]["text"] if job["result"] else job["error"]["message"] if job["error"] else ""
    return (
        job["id"],
        styled(job["state"], STATE_STYLES.get(job["state"], "")),
        job["priority"],
        job["agent"],
        job["llm"],
        seconds(between(job["created_at"], job["started_at"])),
        seconds(between(job["started_at"], job["finished_at"])),
        job["usage"]["completion_tokens"],
        shortened(said, 60),
    )


@job.command()
def show(
    ctx: typer.Context,
    job_id: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show all there is to know of a job."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        _tell(client.job(job_id), as_json=call.json)


@job.command()
def cancel(
    ctx: typer.Context,
    job_id: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Stop a job, wherever it is."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        _tell(client.cancel(job_id), as_json=call.json, brief=True)


@job.command()
def retry(
    ctx: typer.Context,
    job_id: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Submit an ended job once more, as a new job."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        _tell(client.retry(job_id), as_json=call.json, brief=True)


@job.command()
def delete(
    ctx: typer.Context,
    job_id: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Delete an ended job; its bill stays."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        client.delete(job_id)
    if call.json:
        document({"id": job_id, "deleted": True})
    else:
        say(f"{job_id} is deleted.")


@job.command()
def events(
    ctx: typer.Context,
    job_id: JobId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Follow a job's events until it ends; its text as it comes, or JSON lines with --json."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        for event in client.events(job_id):
            if call.json:
                line({"id": event.id, "type": event.type, "data": event.data})
            elif event.type == "tokens":
                print(event.data.get("text", ""), end="", flush=True)
            elif event.type == "state":
                say(f"[{event.data.get('state')}]")
    if not call.json:
        print()


def _tell(job: Job, *, as_json: bool, brief: bool = False) -> None:
    if as_json:
        document(job)
    elif brief:
        print(f"{job['id']} {job['state']}")
    else:
        table(None, ("", ""), [(name, _cell(value)) for name, value in job.items()])


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value

"""``penstock jobs`` and ``penstock job``: looking at jobs and changing them, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json, Key, Url
from ops.show import STATE_STYLES, between, document, line, say, seconds, shortened, styled, table

if TYPE_CHECKING:
    from ops.client import Client
    from ops.wire import Job

    Act = Callable[[Client, str, bool], None]

job = typer.Typer(help="Look at one job, or change it.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
State = Annotated[list[str] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Only jobs of this agent.")]
Alias = Annotated[str | None, typer.Option("--llm", help="Only jobs for this LLM.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")]
Class = Annotated[str, typer.Argument(metavar="CLASS", help="interactive, standard or background.")]
Priority = Annotated[str | None, typer.Option("--priority", help="Only jobs of this class.")]
BulkId = Annotated[str | None, typer.Option("--bulk", help="Only jobs of this bulk.")]
Text = Annotated[str | None, typer.Option("--text", help="Only jobs with these words in them.")]
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


def _of_one_job(act: Act) -> Act:
    """Make a command of what is done with one job: it gets client, id, and whether to answer in JSON."""

    def command(
        ctx: typer.Context,
        job_id: JobId,
        url: Url = None,
        key: Key = None,
        data_dir: DataDir = None,
        json: Json = False,
    ) -> None:
        call = Invocation.of(ctx, data_dir, json)
        with call.client(url, key) as client:
            act(client, job_id, call.json)

    job.command(act.__name__, help=act.__doc__)(command)
    return act


@_of_one_job
def show(client: Client, job_id: str, as_json: bool) -> None:
    """Show all there is to know of a job."""
    _tell(client.job(job_id), as_json=as_json)


@_of_one_job
def cancel(client: Client, job_id: str, as_json: bool) -> None:
    """Stop a job, wherever it is."""
    _tell(client.cancel(job_id), as_json=as_json, brief=True)


@_of_one_job
def retry(client: Client, job_id: str, as_json: bool) -> None:
    """Submit an ended job once more, as a new job."""
    _tell(client.retry(job_id), as_json=as_json, brief=True)


@_of_one_job
def delete(client: Client, job_id: str, as_json: bool) -> None:
    """Delete an ended job; its bill stays."""
    client.delete(job_id)
    if as_json:
        document({"id": job_id, "deleted": True})
    else:
        say(f"{job_id} is deleted.")


@job.command("priority")
def prioritise(
    ctx: typer.Context,
    job_id: JobId,
    priority: Class,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change the priority of a job that waits."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        changed = client.prioritise(job_id, priority)
    if call.json:
        document(changed)
    else:
        print(f"{changed['id']} {changed['state']} {changed['priority']}")


@_of_one_job
def events(client: Client, job_id: str, as_json: bool) -> None:
    """Follow a job's events until it ends; its text as it comes, or JSON lines with --json."""
    for event in client.events(job_id):
        if as_json:
            line({"id": event.id, "type": event.type, "data": event.data})
        elif event.type == "tokens":
            print(event.data.get("text", ""), end="", flush=True)
        elif event.type == "state":
            say(f"[{event.data.get('state')}]")
    if not as_json:
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

"""``penstock submit``: one prompt, or many as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json, Key, Url
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.show import document, line, say

if TYPE_CHECKING:
    from ops.client import Client
    from ops.wire import Job

Prompt = Annotated[str | None, typer.Argument(help="The prompt; - or nothing reads standard input.")]
PromptFile = Annotated[Path | None, typer.Option("--file", help="Read the prompt from a file.")]
Jsonl = Annotated[
    str | None, typer.Option("--jsonl", metavar="FILE|-", help="One job a line, submitted as one bulk.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Agent whose turn this is.")]
Alias = Annotated[str | None, typer.Option("--llm", help="Alias of the LLM that is to do it.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Completion tokens at most.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="0 takes the likeliest token.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End before this text; may be repeated.")]
Priority = Annotated[str | None, typer.Option("--priority", help="interactive, standard or background.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="A tag to filter by; may be repeated.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="K=V", help="A pair to carry; may be repeated.")
]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="The system message.")]


def submit(  # noqa: PLR0913, PLR0917 - each parameter is an option of the command line
    ctx: typer.Context,
    prompt: Prompt = None,
    file: PromptFile = None,
    jsonl: Jsonl = None,
    wait: Wait = False,
    agent: Agent = None,
    llm: Alias = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    seed: Seed = None,
    stop: Stop = None,
    priority: Priority = None,
    tag: Tag = None,
    metadata: Metadata = None,
    system: System = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Submit a job, or many with --jsonl; prints the id, or the result with --wait."""
    given: dict[str, Any] = {
        "agent": agent, "llm": llm, "max_tokens": max_tokens, "temperature": temperature, "seed": seed,
        "stop": stop, "priority": priority, "tags": tag, "metadata": _pairs(metadata or ()),
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value not in (None, {}, [])}
    call = Invocation.of(ctx, data_dir, json)
    if jsonl is not None:
        if prompt or file or system or options:
            raise Complaint("With --jsonl every job stands in its line: leave the other options out.", 2)
        lines = _stdin_bytes() if jsonl == "-" else _bytes(Path(jsonl))
        with call.client(url, key) as client:
            _bulk(client, lines, wait=wait, as_json=call.json)
        return
    body = {**_input(_prompt(prompt, file), system), **options}
    with call.client(url, key) as client:
        _one(client, body, wait=wait, as_json=call.json)


def _input(prompt: str, system: str | None) -> dict[str, Any]:
    if system is None:
        return {"prompt": prompt}
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}]}


def _prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt from the one place that was named."""
    if prompt is not None and prompt != "-" and file is not None:
        raise Complaint("Give the prompt or --file, not both.", CONFIGURATION_ERROR)
    if file is not None:
        return _text(_bytes(file))
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise Complaint("Give a prompt, --file or --jsonl, or pipe the prompt in.", CONFIGURATION_ERROR)
    return _text(_stdin_bytes())


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Complaint(f"{file} cannot be read: {error.strerror}.", CONFIGURATION_ERROR) from error


def _stdin_bytes() -> bytes:
    return sys.stdin.buffer.read()


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Complaint(f"The prompt is not UTF-8 text: {error}.", CONFIGURATION_ERROR) from error


def _pairs(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Complaint(f"--metadata wants K=V, not {pair!r}.", CONFIGURATION_ERROR)
        found[name] = value
    return found


def _one(client: Client, body: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    job = client.submit(body, told=say)
    if wait:
        from ops.waiting import wait_for_job

        job = wait_for_job(client, job)
    if as_json:
        document(job)
    elif wait:
        _print_end(job)
    else:
        print(job["id"])
    if wait and job["state"] != "succeeded":
        raise typer.Exit(1)


def _print_end(job: Job) -> None:
    if job["result"] is not None:
        print(job["result"]["text"])
    if job["state"] != "succeeded":
        error = job["error"]
        say(f"{job['id']} {job['state']}" + (f": {error['type']}: {error['message']}" if error else ""))


def _bulk(client: Client, lines: bytes, *, wait: bool, as_json: bool) -> None:
    bulk = client.bulk_lines(lines, told=say)
    if not wait:
        if as_json:
            document(bulk)
        else:
            print(bulk["id"])
            say(f"{bulk['total']} jobs; `penstock jobs --bulk {bulk['id']}` shows them.")
        return
    from ops.waiting import wait_for_bulk

    bulk = wait_for_bulk(client, bulk)
    for job in reversed(list(client.jobs(bulk=bulk["id"]))):
        if as_json:
            line(job)
        else:
            _print_end(job)
    if bulk["counts"].get("succeeded", 0) != bulk["total"]:
        raise typer.Exit(1)

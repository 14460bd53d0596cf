"""``penstock agent``: looking at agents and at what is cached of them, over HTTP."""

from __future__ import annotations

import json as json_texts
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json, Key, Url
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.show import document, line, say, table

if TYPE_CHECKING:
    from ops.client import Client
    from ops.wire import Agent, Command

agent = typer.Typer(
    help="Look at agents; save, warm and delete what is cached of them.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end, and say what came of it.")]
Llm = Annotated[str | None, typer.Option("--llm", help="For this LLM; default: that of the agent's cache.")]
Messages = Annotated[
    str | None,
    typer.Option("--messages", metavar="FILE|-", help="JSON list of messages to compute ahead."),
]


@agent.command("list")
def listed(
    ctx: typer.Context, url: Url = None, key: Key = None, data_dir: DataDir = None, json: Json = False
) -> None:
    """List agents by name; with --json one agent a line."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        found = client.agents()
        if call.json:
            for one in found:
                line(one)
            return
        columns = ("name", "last used", ">waiting", ">running", "cache", "llm", ">tokens", ">hits", ">reused")
        table(None, columns, [_row(one) for one in found])


def _row(one: Agent) -> tuple[object, ...]:
    cache = one["cache"]
    return (
        one["name"],
        one["last_used_at"][:16].replace("T", " "),
        one["waiting"],
        one["running"],
        cache["where"],
        cache["llm"],
        cache["tokens"],
        cache["hits"],
        _reused(one),
    )


def _reused(one: Agent) -> str | None:
    """The part of all prompts' tokens that was found in a cache."""
    cache = one["cache"]
    return f"{cache['hit_tokens'] / cache['prompt_tokens']:.0%}" if cache["prompt_tokens"] else None


@agent.command()
def show(
    ctx: typer.Context,
    name: Name,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show all there is to know of an agent."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        found = client.agent(name)
    if call.json:
        document(found)
        return
    told: dict[str, Any] = {**found, "reused": _reused(found)}
    cache = told.pop("cache")
    table(None, ("", ""), [*told.items(), *((f"cache {what}", value) for what, value in cache.items())])


@agent.command()
def save(
    ctx: typer.Context,
    name: Name,
    wait: Wait = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write an agent's cache to disk now."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        _follow(client, client.save(name), wait=wait, as_json=call.json)


@agent.command()
def warm(  # noqa: PLR0913, PLR0917 - each parameter is an option of the command line
    ctx: typer.Context,
    name: Name,
    llm: Llm = None,
    messages: Messages = None,
    wait: Wait = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Have an agent's cache in memory before its next job comes, or that of a conversation to come."""
    call = Invocation.of(ctx, data_dir, json)
    given = {"llm": llm, "messages": None if messages is None else _messages(messages)}
    body = {field: value for field, value in given.items() if value is not None}
    with call.client(url, key) as client:
        _follow(client, client.warm(name, body), wait=wait, as_json=call.json)


def _messages(place: str) -> Any:
    """What a file holds, or standard input; whether it is a conversation the service says."""
    try:
        return json_texts.loads(sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes())
    except OSError as error:
        raise Complaint(f"{place} cannot be read: {error.strerror}.", CONFIGURATION_ERROR) from error
    except ValueError as error:
        raise Complaint(f"{place} holds no JSON list of messages: {error}.", CONFIGURATION_ERROR) from error


def _follow(client: Client, command: Command, *, wait: bool, as_json: bool) -> None:
    if wait:
        command = client.end_of(command)
    if as_json:
        document(command)
    else:
        told = command["result"] or {}
        print(command["id"], command["state"], *(f"{name}={value}" for name, value in told.items()))
    if command["error"] is not None:
        say(command["error"])
    if wait and command["state"] != "done":
        raise typer.Exit(1)


@agent.command()
def delete(
    ctx: typer.Context,
    name: Name,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Delete an agent and its caches; its jobs and their bill stay."""
    call = Invocation.of(ctx, data_dir, json)
    with call.client(url, key) as client:
        client.delete_agent(name)
    if call.json:
        document({"name": name, "deleted": True})
    else:
        say(f"{name} is deleted.")

"""The page of the console script: what each command says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from ops.pages.markdown import anchor, code, prose, table

_INTRODUCTION = """\
# Command line

`make` puts the console script into `.venv/bin/penstock`. `--data-dir` and `--json` may stand before the
command's name or behind it. With `--json` stdout carries JSON alone; what is meant for a person goes to
stderr. A command that talks to the service finds address and key in the data directory, so nothing has to
be given while a service runs there.

Exit status: 0 it is done; 1 it failed, or what was examined or waited for did; 2 the command line or the
settings cannot be used as they are; 130 after Ctrl-C.
"""


def page() -> str:
    """All commands, those of a group below their group."""
    from ops.cli.app import app

    root: Any = typer.main.get_command(app)
    lines = [_INTRODUCTION]
    for words, command in _commands(root, "penstock"):
        pieces = [_usage(one) for one in command.params if one.param_type_name == "argument"]
        lines += [f"## {words} {{ #{anchor(words)} }}", "", prose(command.help), ""]
        lines += ["```text", " ".join([words, "[OPTIONS]", *pieces]), "```", ""]
        lines += table(("option", "value", "meaning"), map(_row, command.params))
    return "\n".join(lines)


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Each command that can be run, with the words that run it."""
    for name, command in group.commands.items():
        words = f"{above} {name}"
        inner = getattr(command, "commands", None)
        if inner is None or command.invoke_without_command:
            yield words, command
        if inner is not None:
            yield from _commands(command, words)


def _row(parameter: Any) -> tuple[str, str, str]:
    is_option = parameter.param_type_name == "option"
    shown = ", ".join(map(code, parameter.opts)) if is_option else code(_usage(parameter))
    value = "" if not is_option or parameter.is_flag else code(parameter.metavar or parameter.name.upper())
    has_default = parameter.default not in (None, False, "") and not callable(parameter.default)
    default = f" Built-in: `{parameter.default}`." if has_default else ""
    return shown, value, (parameter.help or "") + default


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"

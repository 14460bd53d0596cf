"""``penstock doctor`` and ``penstock verify``: what is wrong with the machine, or with the books."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json
from ops.show import console, document, say

if TYPE_CHECKING:
    from ops.doctor import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """Examine everything the service needs; exit status 1 if something fails."""
    call = Invocation.of(ctx, data_dir, json)
    from ops.doctor import examine

    findings = []
    for finding in examine(call.data_dir):
        findings.append(finding)
        if not call.json:
            _print(finding)
    failed = any(finding.verdict == "fail" for finding in findings)
    if call.json:
        document({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    raise typer.Exit(1 if failed else 0)


def _print(finding: Finding) -> None:
    shown = console()
    shown.print(f"{finding.verdict:<5}", style=STYLES[finding.verdict], end="")
    shown.print(f"{finding.subject}: {finding.says}")
    if finding.cure:
        shown.print(f"     → {finding.cure}")


def verify(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """Check, beside a running service too, that all rows agree; exit status 1 if they do not."""
    call = Invocation.of(ctx, data_dir, json)
    from models.books import check_integrity

    with call.database() as database, database.read() as session:
        found = check_integrity(session)
    if call.json:
        document({"ok": not found, "breaches": [asdict(breach) for breach in found]})
    elif not found:
        say("The books balance.")
    for breach in found if not call.json else ():
        console().print(f"{breach.rule}: {breach.count} break it", style=STYLES["fail"])
        console().print(f"     {', '.join(breach.samples)}")
    raise typer.Exit(1 if found else 0)

"""The demo's outcome for people and for programs."""

from __future__ import annotations

from typing import Any

from ops.demo import Outcome
from ops.demo.play import Done
from ops.demo.verdict import Verdict, right, share
from ops.show import STATE_STYLES, between, seconds, styled, table

COLUMNS = ("line", "agent", "state", ">wait", ">run", ">tokens", ">cost", "correct")


def show(outcome: Outcome) -> None:
    """Every job, every family, one line that sums up."""
    table(None, COLUMNS, [_row(pair) for pair in outcome.played.done])
    print()
    families = outcome.verdict.families.items()
    rows = [(name, f"{found} of {total}", f"{found / total:.1%}") for name, (found, total) in families]
    table(None, ("family", ">right fields", ">accuracy"), rows)
    print(f"\n{summary(outcome.verdict)}")


def _row(pair: Done) -> tuple[object, ...]:
    entry, job = pair
    found, total = right(pair)
    return (
        entry.name,
        entry.agent or "",
        styled(job["state"], STATE_STYLES.get(job["state"], "")),
        seconds(between(job["created_at"], job["started_at"])),
        seconds(between(job["started_at"], job["finished_at"])),
        job["usage"]["completion_tokens"],
        job["cost"]["amount"],
        styled("yes", "green") if found == total else styled(f"{found} of {total} fields", "yellow"),
    )


def summary(verdict: Verdict) -> str:
    """The demo in one line."""
    unknown = f" (unknown family {share(verdict.unknown):.1%})" if verdict.unknown[1] else ""
    return (
        f"{verdict.jobs} jobs in {seconds(verdict.seconds)}, accuracy {share(verdict.known):.1%}{unknown}, "
        f"{verdict.tokens_per_second:.0f} tokens/s, mean batch {verdict.mean_batch:.1f}, "
        f"cost {verdict.cost.normalize():f} {verdict.currency}"
    )


def as_document(outcome: Outcome) -> dict[str, Any]:
    """The same as JSON."""
    verdict = outcome.verdict
    return {
        "ok": not outcome.reasons,
        "reasons": outcome.reasons,
        "jobs": verdict.jobs,
        "seconds": verdict.seconds,
        "accuracy": share(verdict.known),
        "accuracy_unknown": share(verdict.unknown),
        "families": {name: share(part) for name, part in verdict.families.items()},
        "tokens_per_second": verdict.tokens_per_second,
        "prompt_tokens": verdict.prompt_tokens,
        "completion_tokens": verdict.completion_tokens,
        "mean_batch": verdict.mean_batch,
        "cost": {"currency": verdict.currency, "amount": f"{verdict.cost:f}"},
        "rows": [
            {"line": pair[0].name, "expected": pair[0].line.expected, "right": right(pair), "job": pair[1]}
            for pair in outcome.played.done
        ],
    }

"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``cure`` says what to do where the verdict is not ok."""

    subject: str
    verdict: Verdict
    says: str
    cure: str = ""


def ok(subject: str, says: str) -> Finding:
    """All is well."""
    return Finding(subject, "ok", says)


def warn(subject: str, says: str, cure: str) -> Finding:
    """It works, but something should be done."""
    return Finding(subject, "warn", says, cure)


def fail(subject: str, says: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(subject, "fail", says, cure)

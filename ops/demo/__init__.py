"""``penstock demo``: the whole service on real input, in a folder that is thrown away.

:mod:`work` chooses the lines, :mod:`play` submits and waits, :mod:`verdict`
adds up and judges, :mod:`tables` shows.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.blas import hint
from ops.demo.play import Played, play
from ops.demo.verdict import Verdict, judge
from ops.demo.work import Work, choose
from ops.figures import settled
from ops.service import Service

__all__ = ["Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """All that is known when the service has stopped; ``reasons`` is empty if it went well."""

    work: Work
    played: Played
    verdict: Verdict
    reasons: tuple[str, ...]
    folder: Path


def run(
    jobs: int,
    settings: Mapping[str, Any],
    tell: Callable[[str], None],
    *,
    folder: Path | None = None,
    keep: bool = False,
) -> Outcome:
    """Start a service, give it the work, wait, and stop it again.

    Raises:
        Complaint: the service did not start, or went away.
    """
    work = choose(jobs)
    with _folder(folder, keep=keep) as place:
        tell(f"Starting the service in {place} …")
        if advice := hint():
            tell(advice)
        with Service(place, settings) as service:
            tell(f"It is up at {service.url}. Submitting {work.total} jobs …")
            played = play(service.client, work)
            tokens = sum(job["usage"]["completion_tokens"] for _, job in played.done)
            with service.client() as client:
                totals = settled(client, tokens)
        verdict = judge(work, played, totals, is_pico="default_llm" not in settings)
        reasons = verdict.reasons
        if service.status:
            reasons += (f"the service stopped badly (exit status {service.status}):\n{service.last_words()}",)
        return Outcome(work, played, verdict, reasons, place)


@contextmanager
def _folder(given: Path | None, *, keep: bool) -> Iterator[Path]:
    """The data directory: one that was named stays, one of our own goes unless it is to be kept."""
    if given is not None:
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    try:
        yield made
    finally:
        if not keep:
            shutil.rmtree(made, ignore_errors=True)

"""The page of all metrics, from their declarations in :mod:`config.telemetry`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

from prometheus_client.metrics import MetricWrapperBase

from config import telemetry
from ops.pages.markdown import code, prose, table

_INTRODUCTION = """\
# Metrics

`GET /metrics` answers in Prometheus's text format. One scrape covers the API and the workers: the
processes share their figures through files in `<data-dir>/metrics`. Labels never hold ids, tenants or
agents, so the number of series stays small.

Three gauges are read from the database at each scrape: `penstock_queue_jobs` (jobs that have not ended, by
`llm`, `priority` and `state`), `penstock_queue_oldest_seconds` (since the oldest queued job was submitted, by
`llm` and `priority`) and `penstock_search_behind_jobs` (jobs, about, whose words are not indexed yet). The
others are counted where things happen:
"""


def page() -> str:
    """All metrics in the order of their declaration."""
    heads = ("metric", "kind", "labels", "meaning")
    return "\n".join([_INTRODUCTION, *table(heads, _rows())])


def _rows() -> Iterator[tuple[str, str, str, str]]:
    notes = _notes()
    for name, metric in vars(telemetry).items():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            shown = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(map(code, metric._labelnames))  # noqa: SLF001 - nothing public tells them
            meaning = f"{family.documentation} {prose(notes.get(name))}"
            yield code(shown), family.type, labels, meaning


def _notes() -> dict[str, str]:
    """The docstring below each variable of the module."""
    body = ast.parse(inspect.getsource(telemetry)).body
    found = {}
    for statement, after in pairwise(body):
        if isinstance(statement, ast.Assign) and isinstance(after, ast.Expr):
            target, note = statement.targets[0], after.value
            if isinstance(target, ast.Name) and isinstance(note, ast.Constant):
                found[target.id] = str(note.value)
    return found

"""The gates: CI, the GitHub workflow and pre-commit run the same make targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parent.parent
CHECKS = "make lint typecheck test"


def read(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((PROJECT / path).read_text(encoding="utf-8"))


def test_ci_runs_the_targets_that_people_run() -> None:
    """``.ci/run`` is executable, takes no input and ends with the checks: pytest has the last word."""
    script = PROJECT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert script.stat().st_mode & 0o111
    assert lines[-1] == CHECKS
    assert {"set -euo pipefail", "exec </dev/null"} <= set(lines)


def test_the_workflow_covers_both_platforms() -> None:
    """GitHub runs the demo, the checks and the docs on Linux and on Apple silicon."""
    job = read(".github/workflows/ci.yml")["jobs"]["check"]
    systems = {entry["os"].partition("-")[0] for entry in job["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu", "macos"}
    everywhere = [step["run"] for step in job["steps"] if "run" in step and "if" not in step]
    assert everywhere == ["make demo", CHECKS, "make docs"]


def test_pre_commit_downloads_nothing() -> None:
    """All hooks are local and call make."""
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint", "make typecheck"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}

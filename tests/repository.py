"""The files that the repository holds or would hold, for tests that read all of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROJECT = Path(__file__).parent.parent
_LEFT_BY_TOOLS = {
    ".git",
    ".cache",
    "__pycache__",
    ".hypothesis",
    ".ruff_cache",
    ".mypy_cache",
    ".pytest_cache",
}


def files() -> list[Path]:
    """All files but the ignored ones; where git cannot be asked, all but those that tools leave."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        answer = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
        found = [PROJECT / name for name in answer.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = [file for file in PROJECT.rglob("*") if not _is_left_by_tools(file.relative_to(PROJECT))]
    return sorted(file for file in found if file.is_file() and not file.is_symlink())


def _is_left_by_tools(file: Path) -> bool:
    return (
        any(part in _LEFT_BY_TOOLS or part.startswith(".venv") for part in file.parts) or file.name == ".env"
    )


def texts() -> dict[str, str]:
    """Every file that is text, by its path in the repository."""
    found = {}
    for file in files():
        try:
            found[file.relative_to(PROJECT).as_posix()] = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
    return found

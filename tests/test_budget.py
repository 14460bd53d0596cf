"""Budget: functions and files stay small, and each ignored rule says why."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

from tests import repository

FUNCTION_LINES = 45
FILE_LINES = 400
EXEMPT = "migrations/versions/"  # a migration is one list of statements

IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|fmt:\s*(off|skip)|nosec|ruff:\s*noqa)")
REASONED = re.compile(
    r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\]|pragma: no cover)"
    r"(\s+#|\s*[-–:]|\s+\()\s*\S"
)


def sources() -> dict[str, Path]:
    """Every Python file of the repository, by its path in it."""
    files = {file.relative_to(repository.PROJECT).as_posix(): file for file in repository.files()}
    return {path: file for path, file in files.items() if path.endswith(".py")}


def long_functions(tree: ast.AST, limit: int) -> list[str]:
    """Functions with more than ``limit`` lines, their docstrings and decorators not counted."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines + 1 > limit:
                found.append(f"{node.name} ({lines + 1} lines)")
    return found


def test_functions_are_short() -> None:
    """No function has more than 45 lines."""
    found = {
        path: long_functions(ast.parse(file.read_bytes()), FUNCTION_LINES) for path, file in sources().items()
    }
    assert {path: names for path, names in found.items() if names and not path.startswith(EXEMPT)} == {}


def test_files_are_short() -> None:
    """No file has more than 400 lines."""
    found = {path: len(file.read_bytes().splitlines()) for path, file in sources().items()}
    assert {path: n for path, n in found.items() if n > FILE_LINES and not path.startswith(EXEMPT)} == {}


def bare_ignores(file: Path) -> list[str]:
    """Comments in ``file`` that switch a rule off and give no code or no reason on their line."""
    with file.open("rb") as source:
        comments = [token for token in tokenize.tokenize(source.readline) if token.type == tokenize.COMMENT]
    return [
        f"{token.start[0]}: {token.string}"
        for token in comments
        if IGNORE.match(token.string) and "fmt:" not in token.string and not REASONED.match(token.string)
    ]


def test_ignored_rules_have_reasons() -> None:
    """Each ``noqa`` and ``type: ignore`` names its rule and, on the same line, why it is ignored."""
    found = {path: bare_ignores(file) for path, file in sources().items()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_search_finds(tmp_path: Path) -> None:
    """Long functions and ignores without reason are found."""
    file = tmp_path / "sample.py"
    file.write_text(
        "import a  # noqa\n"
        "import b  # noqa: F401\n"
        "import c  # noqa: F401 - it registers itself\n"
        "d = 1  # type: ignore\n"
        "e = 1  # type: ignore[assignment]  # the library says so\n"
        "f = 1  # type: ignore[assignment]\n",
        encoding="utf-8",
    )
    assert [line.partition(":")[0] for line in bare_ignores(file)] == ["1", "2", "4", "6"]
    long = "def f():\n    '''Doc.'''\n" + "    x = 1\n" * 45
    assert long_functions(ast.parse(long), FUNCTION_LINES) == ["f (46 lines)"]
    assert long_functions(ast.parse(long.replace("    x = 1\n", "", 1)), FUNCTION_LINES) == []

"""Docstrings: everything public says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
ROOMS = ("api", "config", "migrations", "models", "ops", "tests", "workers")
FILES = [file for room in ROOMS for file in sorted((PROJECT / room).rglob("*.py"))]


def undocumented(tree: ast.Module) -> Iterator[str]:
    """The public modules, classes and functions in ``tree`` that have no docstring."""
    if tree.body and not ast.get_docstring(tree):
        yield "module"
    pending: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    while pending:
        above, node = pending.pop()
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or is_overload(node):
            continue
        name = f"{above}{node.name}"
        if not (ast.get_docstring(node) or "").strip():
            yield name
        if isinstance(node, ast.ClassDef):
            pending += [(f"{name}.", inner) for inner in node.body]


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether ``node`` only declares one of several signatures."""
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


@pytest.mark.parametrize("room", ROOMS)
def test_public_things_have_docstrings(room: str) -> None:
    """Every public module, class, function and method of a room has a docstring."""
    lacking = [
        f"{file.relative_to(PROJECT)}: {name}"
        for file in FILES
        if file.is_relative_to(PROJECT / room)
        for name in undocumented(ast.parse(file.read_bytes()))
    ]
    assert lacking == []


def test_the_search_finds_what_lacks_one() -> None:
    """Each kind of public thing is found, private ones and those with a docstring are not."""
    source = '''
class Bare:
    def bare(self): pass
    def _private(self): pass
    def told(self):
        """Told."""
async def bare(): pass
def _private():
    def inner(): pass
'''
    assert sorted(undocumented(ast.parse(source))) == ["Bare", "Bare.bare", "bare", "module"]

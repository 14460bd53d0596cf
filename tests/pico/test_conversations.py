"""The generator of training conversations."""

from __future__ import annotations

import ast
import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from ops import lines, pico
from ops.pico.conversations import LONG, LONGER, SHORT, SINGLE, Lesson, conversations
from ops.pico.echoes import resembling
from ops.pico.families import KNOWN

LESSONS = (SINGLE, SHORT, LONG, LONGER)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_seed_fixes_the_conversations(lesson: Lesson) -> None:
    """The same seed writes the same conversations, another seed others."""
    first, again, other = (list(islice(conversations(lesson, seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("lesson", LESSONS)
def test_answers_are_copied_from_their_lines(lesson: Lesson) -> None:
    """Each answer is compact JSON whose values stand in the line and whose fields the system names."""
    for each in islice(conversations(lesson, 3), 60):
        for text, answer in each.turns:
            fields = json.loads(answer)
            assert answer == json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
            assert all(value in text for value in fields.values())
            assert ", ".join(fields) in each.system


def test_no_real_line_is_written() -> None:
    """Among 10,000 made-up lines, of the training's seed too, none is a real one."""
    real = {line.text for line in lines.load_lines()}
    rng = Random(1)
    made = {family.write(rng)[0] for family in KNOWN for _ in range(1000)}
    for seed in (1, 2):
        for each in islice(conversations(LONG, seed), 100):
            made.update(text for text, _ in each.turns)
    assert len(made) >= 10_000
    assert not made & real


def test_made_up_lines_have_the_shape_of_real_ones() -> None:
    """The parsers of the real lines read the made-up lines of the families without a free layout."""
    shaped = {"dpkg", "alternatives", "nginx", "uvicorn", "git"}
    rng = Random(5)
    for family in KNOWN:
        for text, fields in (family.write(rng) for _ in range(200)):
            if family.names[0] in shaped and " (tag: " not in fields.get("subject", ""):
                assert lines.expected(family.names[0], text) == fields


def test_lines_resemble_earlier_ones() -> None:
    """With odds of 1 every value that stands once in a line is taken over, whole or changed."""
    rng = Random(2)
    text, fields = "10:00:01 vm ready", {"time": "10:00:01", "host": "vm", "message": "ready"}
    earlier = {"time": "23:59:58", "host": "pump", "message": "stopped"}
    echoed, values = resembling((text, fields), earlier, 1.0, rng)
    assert echoed == " ".join(values.values())
    assert values["time"].startswith("2")


def test_the_generator_never_reads_the_real_lines() -> None:
    """No module of the generator or the training imports the real lines or opens a file to read."""
    for path in Path(pico.__path__[0]).rglob("*.py"):
        if path.name in {"evaluate.py", "kept.py"}:  # they measure what was made
            continue
        tree = ast.parse(path.read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"ops.lines", "ops.pico.evaluate"}
        assert not called & {"read_text", "read_bytes", "open"}

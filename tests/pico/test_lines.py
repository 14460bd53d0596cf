"""The real lines, their parsers and the score."""

from __future__ import annotations

import json
import re

import pytest

from ops import lines
from ops.pico import evaluate

REAL = lines.load_lines()


def test_there_are_enough_lines() -> None:
    """At least 120 lines, at least 14 of each known family, and one unknown family are shipped."""
    counts = {family: sum(line.family == family for line in REAL) for family in lines.FIELDS}
    assert sum(counts.values()) >= 120
    assert min(counts.values()) >= 14
    assert {line.family for line in REAL if not line.known} == {"valkey"}


def test_no_line_comes_twice() -> None:
    """Each real line is shipped once."""
    assert len({line.text for line in REAL}) == len(REAL)


def test_every_value_stands_in_its_line() -> None:
    """What a parser expects is copied from the line, and not all of it is empty."""
    for line in REAL:
        assert all(value in line.text for value in line.expected.values())
        assert any(line.expected.values())
        assert tuple(line.expected) == lines.FIELDS[line.family]


def test_a_line_of_another_family_is_refused() -> None:
    """A parser raises for a line that does not have its shape."""
    with pytest.raises(ValueError, match="not a line of nginx"):
        lines.expected("nginx", "eda6455 1.4.0")


def test_the_handbook_names_all_fields() -> None:
    """The shared system message lists each known family with exactly the fields that are expected."""
    for family, fields in lines.FIELDS.items():
        name = "any other line" if family in lines.UNKNOWN else family
        listed = re.search(rf"^- {name}: .* Fields: (.*)\.$", lines.SYSTEM_MESSAGE, re.MULTILINE)
        assert listed is not None
        assert tuple(listed[1].split(", ")) == fields


def test_lines_name_no_home_and_no_registry() -> None:
    """No shipped line holds a home directory, this project's folder or a package registry."""
    assert not [line for line in REAL if re.search(r"/root|/home/|/work|pypi|npmjs", line.text)]


def test_score_counts_exact_fields() -> None:
    """A field is right when its text is the same; missing, wrong and non-string ones are not."""
    expected = {"a": "1", "b": "x y", "c": ""}
    assert evaluate.score(expected, json.dumps(expected)) == (3, 3)
    assert evaluate.score(expected, '{"a":1,"b":"x  y","c":""}') == (1, 3)
    assert evaluate.score(expected, '{"a":"1","b":"x') == (0, 3)
    assert evaluate.score(expected, '["1"]') == (0, 3)


def test_conversations_keep_the_order() -> None:
    """Lines of one family are cut into conversations of the asked length, in the file's order."""
    groups = evaluate.conversations(REAL, 4)
    assert all(len({line.family for line in group}) == 1 and len(group) <= 4 for group in groups)
    assert [line for group in groups for line in group] == REAL

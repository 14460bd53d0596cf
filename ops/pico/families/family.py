"""What a family of log lines is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Written = tuple[str, dict[str, str]]
"""A line and its fields, in the order in which they stand in the family's handbook entry."""


@dataclass(frozen=True)
class Family:
    """A kind of line: its names, how a handbook may describe it, and a writer of lines."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    write: Callable[[Random], Written]

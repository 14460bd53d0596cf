"""Futures that others wait for: one ends as another has ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


def pass_on(first: Future[First], second: Future[Second], make: Callable[[First], Second]) -> None:
    """End ``second`` when ``first`` ends: with what is made of its result, or with its exception."""

    def end(done: Future[First]) -> None:
        error = done.exception()
        if error is None:
            second.set_result(make(done.result()))
        else:
            second.set_exception(error)

    first.add_done_callback(end)

"""How many jobs a second are claimed and finished, however many wait: the engine is empty."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from models.claims import Claim
from ops.bench.figure import Effort, Figure
from ops.bench.hands import Hands
from ops.bench.statistics import median, take_turns
from ops.bench.stock import Stock
from ops.complaint import Complaint

AT_ONCE = 64
"""What the worker claims at most: the rows of its engine (``engine.max_rows``)."""

STORED_AT_ONCE = 100
"""What a bulk stores in a transaction (``bulk.chunk_jobs``)."""

TURNS_TOGETHER = 5
"""Rounds for each of the effort's where many are taken at once: one is over in a tenth of a second."""

RATE_TARGET, RATIO_TARGET = 300.0, 0.8


def rate(stock: Stock, hands: Hands, count: int, at_once: int) -> float:
    """Jobs claimed and finished per second, ``at_once`` in a transaction; the stock is as deep as before.

    Raises:
        Complaint: fewer jobs than ``count`` could be claimed.
    """
    taken: list[Claim] = []
    begun = time.perf_counter()
    while len(taken) < count:
        some = hands.claim(min(at_once, count - len(taken)))
        if not some:
            raise Complaint(f"Only {len(taken)} of {count} jobs could be claimed.")
        hands.finish(some)
        taken += some
    passed = time.perf_counter() - begun
    stock.replace(taken)
    return count / passed


def measure(store: str, stocks: Sequence[Stock], effort: Effort) -> Iterator[Figure]:
    """Rates at each depth, from the least on, and the rate at the greatest against that at the least."""
    hands = {stock: Hands(stock.database, stock.settings) for stock in stocks}
    for stock in stocks:
        rate(stock, hands[stock], effort.cycles, AT_ONCE)
    for at_once in (AT_ONCE, 1):
        sides = {stock: partial(rate, stock, hands[stock], effort.cycles, at_once) for stock in stocks}
        rounds = effort.rounds * (TURNS_TOGETHER if at_once > 1 else 1)
        yield from _figures(store, at_once, take_turns(rounds, sides))
    for hand in hands.values():
        hand.leave()


def _figures(store: str, at_once: int, rates: Mapping[Stock, tuple[float, ...]]) -> Iterator[Figure]:
    """Targets hold for jobs as the worker claims them; one at a time they are there for comparison."""
    stocks = [*rates]
    least, most = stocks[0], stocks[-1]
    who = ", half of one agent" if most.hoarded else ""
    title = f"{store}: claim + finish, {at_once} at once{who}"
    for stock in stocks:
        details = {"jobs_per_second": rates[stock], "waiting": stock.waiting}
        name = f"{title}, {stock.waiting:,} wait"
        yield _figure(at_once, name, median(rates[stock]), "jobs/s", RATE_TARGET, details)
    ratio = median(rates[most]) / median(rates[least])
    name = f"{title}, {most.waiting:,} ÷ {least.waiting:,}"
    yield _figure(at_once, name, ratio, "", RATIO_TARGET, {})


def _figure(
    at_once: int, name: str, value: float, unit: str, target: float, details: Mapping[str, Any]
) -> Figure:
    if at_once == 1:
        return Figure(name, value, unit, details=details)
    return Figure(name, value, unit, "at least", target, details)


def storing(store: str, stock: Stock, effort: Effort) -> Iterator[Figure]:
    """How many jobs a second are stored, durably: one by one, and as a bulk does it."""

    def stored(at_once: int) -> float:
        begun = time.perf_counter()
        for _ in range(effort.cycles // at_once or 1):
            stock.store(stock.database, at_once)
        return (effort.cycles // at_once or 1) * at_once / (time.perf_counter() - begun)

    rates = take_turns(effort.rounds, {number: partial(stored, number) for number in (STORED_AT_ONCE, 1)})
    for at_once, found in rates.items():
        name = f"{store}: store, {at_once} at once, {stock.waiting:,} wait"
        yield Figure(name, median(found), "jobs/s", details={"jobs_per_second": found})

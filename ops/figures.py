"""The engine's totals as one scrape of the metrics tells them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ops.client import Client

CATCH_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Totals:
    """What the engine has done since the service started; pick-ups are in seconds."""

    decoded_tokens: float
    decode_steps: float
    pickup_seconds: float
    pickups: float


def totals(text: str) -> Totals:
    """Read them from Prometheus's text format."""
    return Totals(
        decoded_tokens=_sum(text, "penstock_engine_decoded_tokens_total"),
        decode_steps=_sum(text, "penstock_engine_steps_total"),
        pickup_seconds=_sum(text, "penstock_pickup_seconds_sum"),
        pickups=_sum(text, "penstock_pickup_seconds_count"),
    )


def settled(client: Client, tokens: int) -> Totals:
    """The totals once they cover ``tokens``: workers tell their figures a few times a second."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        found = totals(client.metrics())
        if found.decoded_tokens >= tokens or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _sum(text: str, name: str) -> float:
    """All samples of one metric, whatever their labels."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )

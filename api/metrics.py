"""Figures that the database knows best, read at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models import documents, queues
from models.base import utcnow
from models.database import Database, Unavailable
from models.states import Priority

log = logging.getLogger(__name__)


class QueueCollector(Collector):
    """Depth and age of the queues of all tenants, by LLM and priority; how far the text index is behind."""

    def __init__(self, database: Database, offsets: Mapping[Priority, int]) -> None:
        self._database = database
        self._offsets = offsets

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; without a database there are none, and the other figures are still shown."""
        depth = GaugeMetricFamily(
            "penstock_queue_jobs", "Jobs that have not ended.", labels=["llm", "priority", "state"]
        )
        age = GaugeMetricFamily(
            "penstock_queue_oldest_seconds",
            "Since the oldest queued job was submitted.",
            labels=["llm", "priority"],
        )
        try:
            with self._database.read() as session:
                found = queues.depths(session, offsets=self._offsets)
                behind = documents.behind(session)
        except Unavailable as error:
            log.warning("the queues were not counted: %s", error)
            return
        now = utcnow()
        for queue in found:
            name = Priority(queue.priority).name.lower()
            for state in ("queued", "scheduled", "running"):
                depth.add_metric([queue.llm, name, state], getattr(queue, state))
            if queue.queued and queue.oldest is None:
                continue  # not known is not young
            oldest = 0.0 if queue.oldest is None else max(0.0, (now - queue.oldest).total_seconds())
            age.add_metric([queue.llm, name], oldest)
        yield depth
        yield age
        yield GaugeMetricFamily(
            "penstock_search_behind_jobs", "Jobs, about, whose words are not indexed yet.", value=behind
        )

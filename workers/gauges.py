"""The engine's figures on their way to the metrics, the heartbeat and the estimates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from config import telemetry
from workers.engine import EngineStats

SMOOTHING_SECONDS = 30.0
"""Time constant of the rate at which jobs end."""


class Gauges:
    """Turns totals into metrics, and endings into a smoothed rate."""

    def __init__(self, llm: str, stats: Callable[[], EngineStats], ended_total: Callable[[], int]) -> None:
        self._llm = llm
        self._stats = stats
        self._ended_total = ended_total
        self._told = EngineStats()
        self._ended, self._at = 0, time.monotonic()
        self.jobs_per_second = 0.0

    def publish(self) -> None:
        """Bring the metrics up to the engine's totals."""
        now, before = self._stats(), self._told
        if now == before:
            return
        for counter, new, old in (
            (telemetry.engine_steps, now.decode_steps, before.decode_steps),
            (telemetry.engine_decoded_tokens, now.decoded_tokens, before.decoded_tokens),
            (telemetry.engine_prefill_tokens, now.prefill_tokens, before.prefill_tokens),
            (telemetry.engine_restored_tokens, now.restored_tokens, before.restored_tokens),
        ):
            counter.labels(self._llm).inc(new - old)
        telemetry.engine_batch_rows.labels(self._llm).set(now.rows)
        telemetry.engine_live_bytes.labels(self._llm).set(now.live_bytes)
        telemetry.engine_pool_bytes.labels(self._llm).set(now.pool_bytes)
        self._told = now

    def close(self) -> None:
        """The LLM is unloaded: bring the totals up for the last time; nothing is held of it any more."""
        self.publish()
        for gauge in (telemetry.engine_batch_rows, telemetry.engine_live_bytes, telemetry.engine_pool_bytes):
            gauge.labels(self._llm).set(0)

    def figures(self) -> dict[str, Any]:
        """What the heartbeat carries; also moves the smoothed rate on."""
        at, ended = time.monotonic(), self._ended_total()
        passed = at - self._at
        if passed > 0 and ended > self._ended:
            weight = min(1.0, passed / SMOOTHING_SECONDS)
            rate = (ended - self._ended) / passed
            known = self.jobs_per_second or rate
            self.jobs_per_second = known + weight * (rate - known)
        self._ended, self._at = ended, at
        stats = self._stats()
        return {
            "llm": self._llm,
            "rows": stats.rows,
            "waiting": stats.waiting,
            "live_bytes": stats.live_bytes,
            "pool_bytes": stats.pool_bytes,
            "reused_tokens": stats.reused_tokens,
            "restored_tokens": stats.restored_tokens,
            "decoded_tokens": stats.decoded_tokens,
            "decode_steps": stats.decode_steps,
            "jobs_per_second": round(self.jobs_per_second, 3),
        }

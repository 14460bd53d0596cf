"""Unloading gives the device's memory back: another LLM is to have it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlx.core as mx
import pytest

from config.settings import Llm as LlmSettings
from config.settings import Settings
from models.states import State
from tests.service import Service, completion, new_job, wait_until
from workers.inference import Inference
from workers.registry import Registry

from .llms import CONFIG, save_tiny_llm

WIDE = CONFIG | {
    "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8,
}  # fmt: skip
"""Weights of some 34 megabytes."""


class Stop:
    """A stop in the test's hands."""

    is_set = False

    def set(self) -> None:
        """Ask for it."""
        self.is_set = True

    def wait(self, _timeout: float | None = None) -> bool:
        """The test looks by itself."""
        return True


@pytest.fixture
def service(settings: Settings, sqlite_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with two LLMs of the same size, and one that cannot be loaded when its weights are there."""
    llms = {name: LlmSettings(path=str(save_tiny_llm(tmp_path / name, config=WIDE))) for name in "abc"}
    (tmp_path / "c" / "tokenizer.json").write_text("{}")
    worker = settings.worker.model_copy(update={"llms": ("a", "b", "c"), "swap_wait_seconds": 0})
    values = settings.model_copy(update={"llms": llms, "default_llm": "a", "worker": worker}).model_dump()
    values["database"]["url"] = sqlite_url
    values["engine"]["backend"] = "mlx"
    made = Service(Settings.model_validate(values))
    yield made
    made.broker.close()
    made.database.close()


def test_what_leaves_and_what_fails_gives_its_memory_back(service: Service) -> None:
    """However many have come and gone, with jobs and blocks or in vain, there is room for one at any time."""
    logging.disable(logging.CRITICAL)  # else pytest would keep what failed, and all that it holds
    gc.collect()
    stop, before = Stop(), mx.get_active_memory()
    make = partial(Inference, service.settings, service.database)
    places = Registry(service.settings, service.database, make, stop)
    places.run()
    one = mx.get_active_memory() - before
    assert one > 30_000_000
    mx.reset_peak_memory()
    for llm in ("b", "a", "c"):
        (job,) = service.submit(new_job(completion("the gate " * 40, max_tokens=4), llm=llm))
        places.look()
        assert (places.told()["c"] is not None) is (llm == "c")
        if llm != "c":
            service.wait([job], State.SUCCEEDED)
            wait_until(lambda: not any(place.is_at_work() for place in places._places))
    assert mx.get_peak_memory() - before < 1.5 * one
    assert places.stop()
    assert mx.get_active_memory() - before < 0.1 * one

"""LoRA adapters: the same LLM under two aliases, each with answers and caches of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import Broker, Settings
from config.settings import Llm as LlmSettings
from models.states import State
from tests.service import Service, completion, new_job
from workers.backends.loading import load
from workers.inference import Inference

from .apart import in_a_thread
from .llms import save_tiny_llm

RANK = {"rank": 4, "scale": 20.0, "dropout": 0.0}
ASKED = completion("open the gate and let the water flow " * 12, max_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM."""
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for it, as mlx-lm's training writes one, with random weights."""
    return save_adapter(folder, tmp_path_factory.mktemp("adapter"), seed=1)


def save_adapter(llm: Path, folder: Path, seed: int) -> Path:
    """Write an adapter of both layers of an LLM."""

    def draw() -> None:
        import mlx.core as mx
        import mlx_lm
        from mlx.utils import tree_flatten
        from mlx_lm.tuner.utils import linear_to_lora_layers

        lora: Any = linear_to_lora_layers  # mostly without types
        model: Any = mlx_lm.load(str(llm))[0]
        model.freeze()
        lora(model, 2, RANK)
        shapes: Any = tree_flatten(model.trainable_parameters())
        keys = iter(mx.random.split(mx.random.key(seed), len(shapes)))
        drawn = {name: 0.1 * mx.random.normal(array.shape, key=next(keys)) for name, array in shapes}
        mx.save_safetensors(str(folder / "adapters.safetensors"), drawn)

    in_a_thread(draw)
    told = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": RANK}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def fingerprint(path: Path, adapter: Path | str = "") -> str:
    """What the caches of an LLM are tagged with."""
    found: str = in_a_thread(lambda: load(str(path), str(adapter)).fingerprint)
    return found


@contextmanager
def worker(settings: Settings, url: str, llm: str) -> Iterator[Service]:
    """A service whose worker has loaded one of the configured LLMs."""
    values = settings.model_dump() | {"default_llm": llm}
    values["database"]["url"] = url
    values["broker"] = {**Broker().model_dump(), "poll_ms": 10}
    service = Service(Settings.model_validate(values))
    made = Inference(service.settings, service.database, llm, lambda: service.deaths.append("dead"))
    service.inference = made
    assert made.start()
    yield service
    service.stop()
    service.broker.close()
    service.database.close()


def test_an_adapter_changes_answers_and_shares_no_cache(
    settings: Settings, sqlite_url: str, folder: Path, adapter: Path
) -> None:
    """With it the LLM says something else; of what it has on disk each finds its own and nothing else."""
    llms = {
        "plain": LlmSettings(path=str(folder)),
        "tuned": LlmSettings(path=str(folder), adapter=str(adapter)),
    }
    engine = settings.engine.model_copy(update={"backend": "mlx"})
    both = settings.model_copy(update={"default_llm": "plain", "llms": llms, "engine": engine})
    found: list[tuple[str, int | None]] = []
    for llm in ("plain", "tuned", "plain", "tuned"):
        with worker(both, sqlite_url, llm) as service:
            job = new_job(ASKED, llm=llm, agent=f"ada-{llm}")
            (done,) = service.wait(service.submit(job), State.SUCCEEDED)
            assert done.result is not None
            found.append((done.result.text, done.job.cached_tokens))
    (plain, first), (tuned, second), *again = found
    assert plain != tuned
    assert (first, second) == (0, 0)
    assert [text for text, _ in again] == [plain, tuned]
    assert all(cached for _, cached in again)


def test_every_adapter_has_a_fingerprint_of_its_own(folder: Path, adapter: Path, tmp_path: Path) -> None:
    """Of the same size or not, for the weights and for what scales them; none is that of the bare LLM."""
    other = save_adapter(folder, tmp_path, seed=2)
    prints = [fingerprint(folder), fingerprint(folder, adapter), fingerprint(folder, other)]
    told = json.loads((other / "adapter_config.json").read_text())
    told["lora_parameters"]["scale"] = 10.0
    (other / "adapter_config.json").write_text(json.dumps(told))
    prints.append(fingerprint(folder, other))
    assert len(set(prints)) == 4
    assert fingerprint(folder, adapter) == prints[1]


def test_an_adapter_of_another_llm_is_refused(folder: Path, adapter: Path, tmp_path: Path) -> None:
    """One whose matrices do not fit is no reason to answer without it."""
    import mlx.core as mx

    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())

    def widen() -> None:
        weights: Any = mx.load(str(adapter / "adapters.safetensors"))
        wrong = {name: mx.concatenate([array, array]) for name, array in weights.items()}
        mx.save_safetensors(str(tmp_path / "adapters.safetensors"), wrong)

    in_a_thread(widen)
    with pytest.raises(ValueError, match="incompatible"):
        in_a_thread(lambda: load(str(folder), str(tmp_path)))


def test_half_types_are_widened_under_an_adapter(folder: Path, adapter: Path, tmp_path: Path) -> None:
    """On a CPU an adapter, whose weights are wide, does not leave the LLM's narrow."""
    import mlx.core as mx

    def halve() -> set[Any]:
        from mlx.utils import tree_flatten

        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights: Any = mx.load(str(folder / "model.safetensors"))
        halves = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
        mx.save_safetensors(str(tmp_path / "model.safetensors"), halves)
        loaded: Any = tree_flatten(load(str(tmp_path), str(adapter)).model.parameters())
        return {array.dtype for _, array in loaded}

    found = in_a_thread(halve)
    assert found == ({mx.float32} if mx.default_device() == mx.cpu else {mx.float32, mx.bfloat16})

"""Loading an LLM and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from workers.backends.loading import LoadedLlm, fingerprint, load

from .llms import CONFIG, save_tiny_llm

FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM."""
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


def in_a_thread(work: Callable[[], Any]) -> Any:
    """Do MLX work in a thread that ends MLX behind it."""
    import mlx.core as mx

    def whole() -> Any:
        with mx.stream(mx.new_stream(mx.default_device())):
            done = work()
        mx.clear_streams()
        return done

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(whole).result()


def with_config(**config: Any) -> LoadedLlm:
    """An LLM of which only the configuration matters."""
    return LoadedLlm(None, _Tokenizer(), config, Path())


class _Tokenizer:
    model_max_length = 10**30
    eos_token_ids = (3, 4)

    def __len__(self) -> int:
        return 77


def test_context_length_comes_from_the_config() -> None:
    """Whatever the config calls it, also inside text_config; bounded where nobody knows."""
    assert with_config(max_position_embeddings=4096).context_length == 4096
    assert with_config(n_positions=1024).context_length == 1024
    assert with_config(text_config={"max_position_embeddings": 8192}).context_length == 8192
    assert with_config().context_length == 1 << 20


def test_vocabulary_and_ends() -> None:
    """The network's vocabulary, which may be larger than the tokenizer's, and all ends of sequence."""
    assert with_config(vocab_size=96).vocab_size == 96
    assert with_config().vocab_size == 77
    assert with_config().eos_ids == {3, 4}


def test_the_bytes_of_a_token_are_measured(folder: Path) -> None:
    """Keys and values of two layers with one head of 64, four bytes each."""
    assert in_a_thread(lambda: load(str(folder)).cache_bytes()) == (2 * 2 * 64 * 4, 0)


def test_an_llm_that_cannot_be_batched_is_refused_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the first step, with jobs in the batch."""
    from mlx_lm.models import cache

    unmergeable: Any = cache.ConcatenateKVCache  # without types

    monkeypatch.setattr(
        "workers.backends.loading.make_prompt_cache", lambda _: [unmergeable(), unmergeable()]
    )
    with pytest.raises(ValueError, match="cannot batch this LLM: a layer has a ConcatenateKVCache"):
        in_a_thread(lambda: load(str(folder)).cache_bytes())


def test_half_types_become_float32_on_a_cpu(folder: Path, tmp_path: Path) -> None:
    """A CPU's BLAS knows no half types; on other devices weights stay as they are."""
    import mlx.core as mx

    def halve() -> Any:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = mx.load(str(folder / "model.safetensors"))
        assert isinstance(weights, dict)
        halves = {name: array.astype(mx.float16) for name, array in weights.items()}
        mx.save_safetensors(str(tmp_path / "model.safetensors"), halves)
        return load(str(tmp_path)).model.model.embed_tokens.weight.dtype

    expected = mx.float32 if mx.default_device() == mx.cpu else mx.float16
    assert in_a_thread(halve) == expected


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
)
def test_the_fingerprint_follows_what_decides_the_output(folder: Path, tmp_path: Path, name: str) -> None:
    """It is the same for a copy, and changes with any file that shapes the text."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert fingerprint(copy) == fingerprint(folder)
    (copy / "notes.md").write_text("nothing that matters")
    assert fingerprint(copy) == fingerprint(folder)
    data = bytearray((copy / name).read_bytes())
    data[-3] ^= 1
    (copy / name).write_bytes(data)
    assert fingerprint(copy) != fingerprint(folder)


def test_large_weights_count_by_name_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes are not read at every start."""
    monkeypatch.setattr("workers.backends.loading.SMALL_WEIGHTS", 10)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"a" * 20)
    before = fingerprint(tmp_path)
    weights.write_bytes(b"b" * 20)
    assert fingerprint(tmp_path) == before
    weights.write_bytes(b"b" * 21)
    assert fingerprint(tmp_path) != before


def test_a_path_without_an_llm_says_so(tmp_path: Path) -> None:
    """Loading an empty directory raises, and names it."""
    with pytest.raises(FileNotFoundError):
        in_a_thread(lambda: load(str(tmp_path)))

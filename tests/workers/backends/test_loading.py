"""Loading an LLM and what is known of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from workers.backends.loading import LoadedLlm, file_fingerprint, load

from .apart import in_a_thread
from .llms import CONFIG, save_tiny_llm

FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM."""
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


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


def test_an_llm_computes_a_token_when_it_is_loaded(folder: Path) -> None:
    """Its caches hold that token, so that they can be measured."""
    caches = in_a_thread(lambda: load(str(folder)).probe())
    assert [cache.offset for cache in caches] == [1, 1]


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
    assert file_fingerprint(copy) == file_fingerprint(folder)
    (copy / "notes.md").write_text("nothing that matters")
    assert file_fingerprint(copy) == file_fingerprint(folder)
    data = bytearray((copy / name).read_bytes())
    data[-3] ^= 1
    (copy / name).write_bytes(data)
    assert file_fingerprint(copy) != file_fingerprint(folder)


def test_of_large_weights_parts_are_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes are not read at every start, but of each array its beginning, its end and some between."""
    monkeypatch.setattr("workers.backends.loading.SMALL_WEIGHTS", 10)
    monkeypatch.setattr("workers.backends.loading.SAMPLE_EVERY", 3000)
    monkeypatch.setattr("workers.backends.loading.SAMPLE", 10)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights, data = tmp_path / "model.safetensors", (folder / "model.safetensors").read_bytes()
    behind = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:behind])
    first, last = header["model.embed_tokens.weight"]["data_offsets"]

    def changed_at(place: int) -> str:
        flipped = bytearray(data)
        flipped[behind + place] ^= 1
        weights.write_bytes(flipped)
        return file_fingerprint(tmp_path)

    weights.write_bytes(data)
    before = file_fingerprint(tmp_path)
    assert changed_at(first + 20) == before
    seen = {changed_at(place) for place in (first, first + 3005, first + 6000, last - 1)}
    norms = [told["data_offsets"][0] for name, told in header.items() if "norm" in name]
    seen |= {changed_at(place) for place in norms}
    assert before not in seen
    assert len(seen) == 4 + len(norms)


def test_two_tunings_of_one_llm_have_different_fingerprints(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights with the same names, shapes and sizes tell themselves apart by their numbers."""
    import mlx.core as mx

    def tune() -> None:
        weights = mx.load(str(folder / "model.safetensors"))
        assert isinstance(weights, dict)
        tuned = {name: array * 1.001 if "q_proj" in name else array for name, array in weights.items()}
        mx.save_safetensors(str(tmp_path / "model.safetensors"), tuned)

    monkeypatch.setattr("workers.backends.loading.SMALL_WEIGHTS", 10)
    for name in FILES[:3]:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    in_a_thread(tune)
    assert file_fingerprint(tmp_path) != file_fingerprint(folder)


def test_the_fingerprint_follows_type_and_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files loaded as another type, or by another mlx-lm, make other caches."""
    import mlx.core as mx

    def of(dtype: Any) -> str:
        llm = load(str(folder))
        llm.model.set_dtype(dtype)
        return llm.fingerprint

    single, half = (in_a_thread(partial(of, dtype)) for dtype in (mx.float32, mx.float16))
    assert single == in_a_thread(lambda: load(str(folder)).fingerprint)
    assert single != half
    monkeypatch.setattr("mlx_lm.__version__", "0.0.1")
    assert single != in_a_thread(lambda: of(mx.float32))


def test_a_path_without_an_llm_says_so(tmp_path: Path) -> None:
    """Loading an empty directory raises, and names it."""
    with pytest.raises(FileNotFoundError):
        in_a_thread(lambda: load(str(tmp_path)))

"""Finding and loading an LLM with mlx-lm's own loader, and what can be known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import hf_repo_to_path

BUILTIN = "builtin:"
SMALL_WEIGHTS = 64 * 2**20
SAMPLE_EVERY = 2**20
SAMPLE = 1024
WIDEN_BYTES = 2 * 2**30
CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions", "n_ctx")
SHAPING = (
    "config.json",
    "adapter_config.json",
    "generation_config",
    "tokenizer",
    "chat_template",
    "special_tokens",
    "vocab",
    "merges",
)


@dataclass(frozen=True, slots=True)
class LoadedLlm:
    """An LLM in memory: its network, its tokenizer and where it came from, with its adapter if it has one."""

    model: Any
    tokenizer: Any
    config: Mapping[str, Any]
    directory: Path
    adapter: Path | None = None

    @property
    def context_length(self) -> int:
        """Positions the LLM was made for; the tokenizer's word where the config has none."""
        for key in CONTEXT_KEYS:
            value = self._config_value(key)
            if value is not None:
                return int(value)
        return min(int(self.tokenizer.model_max_length), 1 << 20)

    @property
    def vocab_size(self) -> int:
        """Token ids the network has embeddings for."""
        return int(self._config_value("vocab_size") or len(self.tokenizer))

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a reply."""
        return frozenset(self.tokenizer.eos_token_ids)

    @property
    def fingerprint(self) -> str:
        """SHA-256, as hex, of what decides the LLM's output and the numbers in its caches.

        That is its files, the type that its weights have been loaded as, and mlx-lm's version.
        """
        parameters: Any = tree_flatten(self.model.parameters())
        dtypes = sorted({str(array.dtype) for _, array in parameters})
        folders = [self.directory] if self.adapter is None else [self.directory, self.adapter]
        parts = [*map(file_fingerprint, folders), *dtypes, mlx_lm.__version__]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def probe(self) -> list[Any]:
        """Compute one token, which shows that the device works; return the caches that hold it."""
        make: Any = make_prompt_cache  # its result has no types
        cache: list[Any] = make(self.model)
        mx.eval(self.model(mx.array([[0]]), cache=cache))
        return cache

    def _config_value(self, key: str) -> Any:
        value = self.config.get(key)
        return self.config.get("text_config", {}).get(key) if value is None else value


def load(path: str, adapter: str = "") -> LoadedLlm:
    """Load the LLM at ``path``: ``builtin:pico``, a directory, or a hub id (fetched if need be).

    ``adapter`` is the directory of a LoRA adapter as mlx-lm writes it, or empty.
    """
    place = str(Path(__file__).parent / path.removeprefix(BUILTIN)) if path.startswith(BUILTIN) else path
    loader: Any = mlx_lm.load  # its types do not tell the three values from the two
    folder = Path(adapter).expanduser() if adapter else None
    llm, tokenizer, config = loader(place, adapter_path=folder, return_config=True)
    if mx.default_device() == mx.cpu:
        _widen(llm)
    return LoadedLlm(llm, tokenizer, config, _directory(place), folder)


def file_fingerprint(directory: Path) -> str:
    """SHA-256 of the files that decide the LLM's output, or what its adapter changes, as hex.

    Config and tokenizer with their bytes; weights with their bytes too when
    they are small, else with their headers and parts of each array.
    """
    weights = sorted(directory.glob("*.safetensors"))
    small = sum(file.stat().st_size for file in weights) < SMALL_WEIGHTS
    shaping = [file for file in sorted(directory.iterdir()) if _shapes_text(file)]
    digest = hashlib.sha256()
    for file in (*shaping, *weights):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        whole = small or file in shaping
        for part in [file.read_bytes()] if whole else _samples(file):
            digest.update(part)
    return digest.hexdigest()


def _samples(file: Path) -> Iterator[bytes]:
    """A safetensors file's header, and of each array the end and the beginning of each piece.

    Format: eight bytes with the header's length, the header as JSON, the arrays.
    """
    with file.open("rb") as data:
        header = data.read(int.from_bytes(data.read(8), "little"))
        yield header
        behind = data.tell()
        for name, told in json.loads(header).items():
            if name == "__metadata__":
                continue
            first, last = told["data_offsets"]
            for at in (*range(first, last, SAMPLE_EVERY), max(first, last - SAMPLE)):
                data.seek(behind + at)
                yield data.read(SAMPLE)


def _widen(llm: Any) -> None:
    """Turn half-type weights into float32, as an adapter has: a CPU's BLAS is up to 20 times faster."""
    pairs: Any = tree_flatten(llm.parameters())
    arrays: list[mx.array] = [array for _, array in pairs]
    all_plain = {array.dtype for array in arrays} <= {mx.float16, mx.bfloat16, mx.float32}
    if all_plain and sum(array.nbytes for array in arrays) <= WIDEN_BYTES:
        llm.set_dtype(mx.float32)
        mx.eval(llm.parameters())


def _directory(place: str) -> Path:
    """Where the files of a loaded LLM are: the directory named, or the hub's cache of the id."""
    if Path(place).is_dir():
        return Path(place)
    where: Any = hf_repo_to_path
    return Path(where(place))


def _shapes_text(file: Path) -> bool:
    return file.is_file() and file.name.startswith(SHAPING)

"""Finding and loading an LLM with mlx-lm's own loader, and what can be known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
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
WIDEN_BYTES = 2 * 2**30
CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions", "n_ctx")
SHAPING = (
    "config.json",
    "generation_config",
    "tokenizer",
    "chat_template",
    "special_tokens",
    "vocab",
    "merges",
)


@dataclass(frozen=True, slots=True)
class LoadedLlm:
    """An LLM in memory: its network, its tokenizer and where it came from."""

    model: Any
    tokenizer: Any
    config: Mapping[str, Any]
    directory: Path

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

    def cache_bytes(self) -> tuple[int, int]:
        """Compute one token; return the cache's bytes for each further token and its fixed bytes a row.

        This also shows that the device works. Raises ValueError for an LLM
        whose caches cannot be batched.
        """
        cache = make_prompt_cache(self.model)
        mx.eval(self.model(mx.array([[0]]), cache=cache))
        per_token = per_row = 0
        for layer in _leaves(cache):
            if not hasattr(layer, "merge"):
                raise ValueError(f"mlx-lm cannot batch this LLM: a layer has a {type(layer).__name__}")
            keys = getattr(layer, "keys", None)
            if keys is None:
                per_row += layer.nbytes
            else:
                per_token += layer.nbytes // keys.shape[2]
        return per_token, per_row

    def _config_value(self, key: str) -> Any:
        value = self.config.get(key)
        return self.config.get("text_config", {}).get(key) if value is None else value


def load(path: str) -> LoadedLlm:
    """Load the LLM at ``path``: ``builtin:pico``, a directory, or a hub id (fetched if need be)."""
    place = str(Path(__file__).parent / path.removeprefix(BUILTIN)) if path.startswith(BUILTIN) else path
    loader: Any = mlx_lm.load  # its types do not tell the three values from the two
    llm, tokenizer, config = loader(place, return_config=True)
    if mx.default_device() == mx.cpu:
        _widen(llm)
    return LoadedLlm(llm, tokenizer, config, _directory(place))


def fingerprint(directory: Path) -> str:
    """SHA-256 of what decides the LLM's output, as hex.

    Config and tokenizer with their bytes; weights with their bytes too when
    they are small, else with their names and sizes.
    """
    weights = sorted(directory.glob("*.safetensors"))
    small = sum(file.stat().st_size for file in weights) < SMALL_WEIGHTS
    whole = [file for file in sorted(directory.iterdir()) if _shapes_text(file)] + (weights if small else [])
    digest = hashlib.sha256()
    for file in weights:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    for file in whole:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _widen(llm: Any) -> None:
    """Turn half-type weights into float32: a CPU's BLAS is up to 20 times faster with them."""
    pairs: Any = tree_flatten(llm.parameters())
    arrays: list[mx.array] = [array for _, array in pairs]
    all_half = {array.dtype for array in arrays} <= {mx.float16, mx.bfloat16}
    if all_half and sum(array.nbytes for array in arrays) <= WIDEN_BYTES:
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


def _leaves(cache: Iterable[Any]) -> Iterable[Any]:
    """The caches of all layers, those inside a layer's list of caches too."""
    for layer in cache:
        inner = getattr(layer, "caches", None)
        if inner is None:
            yield layer
        else:
            yield from _leaves(inner)

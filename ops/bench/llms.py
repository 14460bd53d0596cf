"""The LLMs that are measured: they go on until ``max_tokens``, so that both sides do the same work.

* ``pico`` with its own weights, but files that name another end of sequence: the
  padding token, which it was never trained to say.
* Llamas of random numbers with pico's tokenizer, of about 100 million and of
  other sizes. The row of the output matrix for the end of sequence is zero, so
  that token's logit is 0, and the largest of a thousand random logits never is.

That nothing stopped early is checked after every measurement.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

PICO = Path(__file__).resolve().parents[2] / "workers" / "backends" / "pico"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama; a head has ``head`` numbers, ``kv_heads`` of them keys and values."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    layers: int


LLAMA = Shape(hidden=768, inner=2048, heads=12, kv_heads=12, head=64, layers=14)

SHAPES = {
    "16m": replace(LLAMA, layers=2),
    "101m": LLAMA,
    "1b": Shape(hidden=2048, inner=8192, heads=32, kv_heads=8, head=64, layers=16),
    "8b": Shape(hidden=4096, inner=14336, heads=32, kv_heads=8, head=128, layers=32),
}
"""Random Llamas by name; the last two are shaped as Llama 3.2 1B and Llama 3.1 8B, with pico's vocabulary."""


def endless_pico(folder: Path, dtype: str | None = None, context: int | None = None) -> Path:
    """A copy of pico that never ends by itself.

    ``dtype`` (numpy's name) is what its weights are turned into, ``context`` the
    length that it says it was made for: beyond its own it computes as before, and writes nonsense.
    """
    from safetensors.numpy import load_file, save_file

    shutil.copytree(PICO, folder)
    for name, end, padding in (
        ("config.json", "eos_token_id", "pad_token_id"),
        ("generation_config.json", "eos_token_id", "pad_token_id"),
        ("tokenizer_config.json", "eos_token", "pad_token"),
    ):
        _change(folder / name, {end: _read(folder / name)[padding]})
    if context is not None:
        _change(folder / "config.json", {"max_position_embeddings": context})
    if dtype is not None:
        file = folder / "model.safetensors"
        weights = {name: array.astype(dtype) for name, array in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
    return folder


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _change(file: Path, values: dict[str, Any]) -> None:
    """Give a JSON file's values others."""
    file.write_text(json.dumps(_read(file) | values), encoding="utf-8")


def random_llama(folder: Path, shape: Shape, dtype: str, context: int | None = None) -> Path:
    """A Llama of random numbers in ``dtype`` (numpy's name); the seed is fixed.

    ``context`` is the length that it is made for; pico's if none is given.
    """
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        if (PICO / name).exists():
            shutil.copy(PICO / name, folder / name)
    pico = _read(PICO / "config.json")
    config = _config(shape, pico) | ({} if context is None else {"max_position_embeddings": context})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    draw = np.random.default_rng(20)
    weights = {
        name: np.ones(size, dtype)
        if len(size) == 1
        else (draw.standard_normal(size, np.float32) * size[1] ** -0.5).astype(dtype)
        for name, size in _shapes(shape, config["vocab_size"]).items()
    }
    weights["lm_head.weight"][config["eos_token_id"]] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(shape: Shape, pico: dict[str, Any]) -> dict[str, Any]:
    """Keys as in transformers' LlamaConfig."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "vocab_size": pico["vocab_size"],
        "max_position_embeddings": pico["max_position_embeddings"],
        "eos_token_id": pico["eos_token_id"],
        "pad_token_id": pico["pad_token_id"],
    }


def _shapes(shape: Shape, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama's weights as mlx-lm's ``llama`` expects them."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, shape.hidden),
        "model.norm.weight": (shape.hidden,),
        "lm_head.weight": (vocabulary, shape.hidden),
    }
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.q_proj.weight": (queries, shape.hidden)}
        shapes |= {f"{at}.self_attn.{part}_proj.weight": (keys, shape.hidden) for part in ("k", "v")}
        shapes |= {f"{at}.self_attn.o_proj.weight": (shape.hidden, queries)}
        shapes |= {f"{at}.mlp.{part}_proj.weight": (shape.inner, shape.hidden) for part in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (shape.hidden, shape.inner)}
        shapes |= {f"{at}.{name}_layernorm.weight": (shape.hidden,) for name in ("input", "post_attention")}
    return shapes


def parameters(shape: Shape) -> int:
    """How many numbers a random Llama has, with pico's vocabulary."""
    pico = _read(PICO / "config.json")
    return sum(prod(size) for size in _shapes(shape, pico["vocab_size"]).values())

"""The LLMs that are measured: they go on until ``max_tokens``, so that both sides do the same work.

* ``pico`` with its own weights, but files that name another end of sequence: the
  padding token, which it was never trained to say.
* A Llama of about 100 million random numbers with pico's tokenizer. The row of
  its output matrix for the end of sequence is zero, so that token's logit is 0,
  and the largest of a thousand random logits never is.

That nothing stopped early is checked after every measurement.
"""

from __future__ import annotations

import json
import shutil
from math import prod
from pathlib import Path
from typing import Any

PICO = Path(__file__).resolve().parents[2] / "workers" / "backends" / "pico"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

HIDDEN, INNER, HEADS, HEAD = 768, 2048, 12, 64


def endless_pico(folder: Path) -> Path:
    """A copy of pico that never ends by itself."""
    shutil.copytree(PICO, folder)
    for name, end, padding in (
        ("config.json", "eos_token_id", "pad_token_id"),
        ("generation_config.json", "eos_token_id", "pad_token_id"),
        ("tokenizer_config.json", "eos_token", "pad_token"),
    ):
        file = folder / name
        described = json.loads(file.read_text(encoding="utf-8"))
        described[end] = described[padding]
        file.write_text(json.dumps(described), encoding="utf-8")
    return folder


def random_llama(folder: Path, layers: int, dtype: str) -> Path:
    """A Llama of random numbers, 7.1 million a layer, in ``dtype`` (numpy's name); the seed is fixed."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        if (PICO / name).exists():
            shutil.copy(PICO / name, folder / name)
    pico = json.loads((PICO / "config.json").read_text(encoding="utf-8"))
    config = _config(layers, pico)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    draw = np.random.default_rng(20)
    weights = {
        name: np.ones(shape, dtype)
        if len(shape) == 1
        else (draw.standard_normal(shape, np.float32) * shape[1] ** -0.5).astype(dtype)
        for name, shape in _shapes(layers, config["vocab_size"]).items()
    }
    weights["lm_head.weight"][config["eos_token_id"]] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(layers: int, pico: dict[str, Any]) -> dict[str, Any]:
    """Keys as in transformers' LlamaConfig."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "vocab_size": pico["vocab_size"],
        "max_position_embeddings": pico["max_position_embeddings"],
        "eos_token_id": pico["eos_token_id"],
        "pad_token_id": pico["pad_token_id"],
    }


def _shapes(layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama's weights as mlx-lm's ``llama`` expects them."""
    square, up, down = (HIDDEN, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (vocabulary, HIDDEN),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{part}_proj.weight": square for part in ("q", "k", "v", "o")}
        shapes |= {f"{at}.mlp.gate_proj.weight": up, f"{at}.mlp.up_proj.weight": up}
        shapes |= {f"{at}.mlp.down_proj.weight": down}
        shapes |= {f"{at}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return shapes


def parameters(layers: int) -> int:
    """How many numbers the random Llama has, with pico's vocabulary."""
    pico = json.loads((PICO / "config.json").read_text(encoding="utf-8"))
    return sum(prod(shape) for shape in _shapes(layers, pico["vocab_size"]).values())

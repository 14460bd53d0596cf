"""The bytes that are read from a config are those of the caches that mlx-lm makes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from workers.cache import CacheSpec
from workers.cache.layer import LayerSpec

SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
    "vocab_size": 128, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [0, 1, 2, 3],
}  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", "num_hidden_layers": 2, "head_dim": 32},
    {
        "model_type": "llama", "num_hidden_layers": 2, "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    {"model_type": "qwen2", "num_hidden_layers": 2, "sliding_window": 16},
    {"model_type": "qwen3", "num_hidden_layers": 2, "head_dim": 32, "tie_word_embeddings": True},
    {"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 16},
    {
        "model_type": "gemma3", "vocab_size": 128,
        "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window": 16, **SIZES},
    },
    {"model_type": "gpt_oss", "num_hidden_layers": 4, "head_dim": 32, "sliding_window": 16, **EXPERTS},
    {"model_type": "olmo3", "num_hidden_layers": 4, "sliding_window": 16, "tie_word_embeddings": True},
    {
        "model_type": "qwen3_next", "num_hidden_layers": 4, "head_dim": 32, "partial_rotary_factor": 0.5,
        "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
        "linear_value_head_dim": 24, "linear_conv_kernel_dim": 4, **EXPERTS,
    },
    {
        "model_type": "lfm2", "num_hidden_layers": 3, "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3,
        "block_dim": 64, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True, "layer_types": ["conv", "full_attention", "conv"],
    },
    {
        "model_type": "granitemoehybrid", "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"], "embedding_multiplier": 1.0,
        "attention_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
        "attention_bias": False, "mlp_bias": False, "mamba_n_heads": 4,
        "mamba_d_head": 16, "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_n_groups": 2,
        "mamba_proj_bias": False, "mamba_conv_bias": True, "shared_intermediate_size": 32,
    },
    {
        "model_type": "mamba", "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4, "use_bias": False,
        "use_conv_bias": True, "time_step_rank": 4,
    },
    {
        "model_type": "mamba2", "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "state_size": 8,
        "layer_norm_epsilon": 1e-5, "conv_kernel": 4, "n_groups": 2, "use_bias": False,
        "use_conv_bias": True, "tie_word_embeddings": True, "time_step_limit": (0.0, 1.0),
        "time_step_rank": 4,
    },
]  # fmt: skip


def measured(config: dict[str, Any], dtype: str) -> Iterator[tuple[int, tuple[LayerSpec, ...], int]]:
    """How many tokens an LLM's caches hold, with their layers and bytes: below a window, and beyond."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model = module.Model(module.ModelArgs.from_dict(config))
    model.set_dtype(getattr(mx, dtype))
    model.eval()
    cache: list[Any] = make_prompt_cache(model)
    mx.eval(model(mx.array([[1] * 9]), cache=cache))
    yield 9, *sum_of(cache)
    for _ in range(11):
        mx.eval(model(mx.array([[2]]), cache=cache))
    yield 20, *sum_of(cache)


def sum_of(cache: list[Any]) -> tuple[tuple[LayerSpec, ...], int]:
    """All layers' specs, and their bytes."""
    layers = [layer(one) for one in cache]
    return tuple(spec for spec, _ in layers), sum(nbytes for _, nbytes in layers)


def layer(cache: Any) -> tuple[LayerSpec, int]:
    """One layer's spec, and the bytes of what it holds: without room it has for more."""
    if not hasattr(cache, "offset"):
        nbytes = sum(array.nbytes for array in cache.cache)
        return LayerSpec("state", state_bytes=nbytes), nbytes
    keys, values = cache.keys_and_values()
    heads, window = keys.shape[1], getattr(cache, "max_size", 0)
    kind: Any = "sliding" if window else "full"
    return LayerSpec(kind, heads, keys.shape[3], values.shape[3], window), keys.nbytes + values.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=[config["model_type"] for config in CONFIGS])
def test_a_config_tells_the_caches(config: dict[str, Any]) -> None:
    """Layers and bytes that a config tells are those of the arrays, below a window and beyond it."""
    whole = {**SIZES, **config}
    # A CPU computes experts in float32 alone.
    name, dtype = ("F32", "float32") if config["model_type"] == "gpt_oss" else ("F16", "float16")
    spec = CacheSpec.from_config(whole, name)
    with ThreadPoolExecutor(1) as thread:  # MLX's streams belong to a thread
        found = thread.submit(lambda: list(measured(whole, dtype))).result()
    for tokens, layers, nbytes in found:
        assert spec.layers == layers
        assert spec.sequence_bytes(tokens) == nbytes


def test_quantized_bytes_are_those_of_mlx() -> None:
    """A quantized block takes what ``mx.quantize`` makes of its keys and values."""
    import mlx.core as mx

    for size, group in ((128, 64), (96, 32)):
        for bits in (4, 8):
            keys = mx.ones((1, 2, 10, size), mx.float16)
            nbytes = sum(part.nbytes for part in mx.quantize(keys, group_size=group, bits=bits))
            spec = CacheSpec((LayerSpec("full", 2, size, size),), "F16", bits)
            assert spec.block_bytes(10) == 2 * nbytes

"""Which caches mlx-lm makes of an LLM, as its ``config.json`` tells.

From ``make_cache`` and the layers of mlx-lm 0.32.2 (``mlx_lm/models``). Only
architectures that were read there are known here: a guess that is wrong would
promise memory that there is not, while caches can always be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.cache.layer import ITEM_BYTES, LayerSpec

FULL = (
    "cohere", "gemma", "gemma2", "glm", "glm4", "glm4_moe", "granite", "granitemoe", "internlm2", "mixtral",
    "nemotron", "olmo2", "olmoe", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "seed_oss", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
"""All layers keep every token, whatever the config says of windows."""

FLOAT32 = 4
"""Bytes of a number of recurrent state, where mlx-lm keeps it in float32 whatever the LLM computes in."""


@dataclass(frozen=True, slots=True)
class _Config:
    """A config's keys, and the bytes of a number that the LLM computes with."""

    keys: Mapping[str, Any]
    item: int

    def number(self, key: str, default: int | None = None) -> int:
        value = self.keys.get(key)
        value = default if value is None else value
        if not isinstance(value, int):
            raise ValueError(_unclear(key, "missing" if value is None else f"{value!r}"))
        return value

    @property
    def layers(self) -> int:
        return self.number("num_hidden_layers")

    def layer_types(self, pattern: Sequence[str]) -> list[str]:
        """The type of each layer; ``pattern`` is repeated where the config has none."""
        types = self.keys.get("layer_types")
        if types is None:
            return [pattern[layer % len(pattern)] for layer in range(self.layers)]
        if len(types) != self.layers:
            raise ValueError(_unclear("layer_types", f"of {len(types)} layers, not of {self.layers}"))
        return list(types)

    def attention(self, window: int = 0) -> LayerSpec:
        """A layer with keys and values: of the last ``window`` tokens, or of all."""
        size = self.keys.get("head_dim") or self.number("hidden_size") // self.number("num_attention_heads")
        heads = self.number("num_key_value_heads", self.keys.get("num_attention_heads"))
        return LayerSpec("sliding" if window else "full", heads, size, size, window)


def layers_of(config: Mapping[str, Any], dtype: str) -> tuple[LayerSpec, ...]:
    """The caches of all layers; what a nested ``text_config`` says goes before the rest.

    ``dtype`` is the safetensors name of what the LLM computes in. Raises
    ValueError, which names the key, for a config that tells too little or has
    the ``model_type`` of an architecture that is not known here.
    """
    nested = config.get("text_config") or {}
    keys = {**config, **nested}
    read = READERS.get(keys.get("model_type", ""))
    if read is None:
        raise ValueError(_unclear("model_type", repr(keys.get("model_type"))))
    return tuple(read(_Config(keys, ITEM_BYTES[dtype])))


def _unclear(key: str, what: str) -> str:
    return f"the config's {key} is {what}: the caches of this LLM must be measured"


def _full(config: _Config) -> list[LayerSpec]:
    return [config.attention()] * config.layers


def _windows(types: Sequence[str], config: _Config) -> list[LayerSpec]:
    window = config.number("sliding_window") if "sliding_attention" in types else 0
    return [config.attention(window if name == "sliding_attention" else 0) for name in types]


def _llama(config: _Config) -> list[LayerSpec]:
    return _windows(config.layer_types(["full_attention"]), config)


def _gpt_oss(config: _Config) -> list[LayerSpec]:
    return _windows(config.layer_types(["sliding_attention", "full_attention"]), config)


def _olmo3(config: _Config) -> list[LayerSpec]:
    return _windows(config.layer_types(["sliding_attention"] * 3 + ["full_attention"]), config)


def _gemma3(config: _Config) -> list[LayerSpec]:
    # Published configs leave out what is the same in all sizes; the nested ones its 4 heads, too.
    defaults: dict[str, Any] = {"head_dim": 256, "sliding_window_pattern": 6}
    if "text_config" in config.keys:
        defaults["num_key_value_heads"] = 4
    config = _Config({**defaults, **config.keys}, config.item)
    pattern = config.number("sliding_window_pattern")
    # mlx-lm goes by the pattern even where there are layer_types.
    types = (["sliding_attention"] * (pattern - 1) + ["full_attention"]) * config.layers
    return _windows(types[: config.layers], config)


def _qwen3_next(config: _Config) -> list[LayerSpec]:
    keys = config.number("linear_num_key_heads") * config.number("linear_key_head_dim")
    values = config.number("linear_num_value_heads") * config.number("linear_value_head_dim")
    recent = (config.number("linear_conv_kernel_dim") - 1) * (2 * keys + values) * config.item
    matrix = values * config.number("linear_key_head_dim") * FLOAT32
    linear = LayerSpec("state", state_bytes=recent + matrix)
    interval = config.number("full_attention_interval", 4)
    return [linear if (layer + 1) % interval else config.attention() for layer in range(config.layers)]


def _lfm2(config: _Config) -> list[LayerSpec]:
    recent = (config.number("conv_L_cache") - 1) * config.number("hidden_size") * config.item
    full = config.keys.get("full_attn_idxs")
    if full is None:
        types = config.layer_types(["conv"]) if config.keys.get("layer_types") else None
        if types is None:
            raise ValueError(_unclear("layer_types", "missing, and so is full_attn_idxs"))
        full = [layer for layer, name in enumerate(types) if name == "full_attention"]
    conv = LayerSpec("state", state_bytes=recent)
    return [config.attention() if layer in full else conv for layer in range(config.layers)]


def _mamba(config: _Config) -> list[LayerSpec]:
    recent = config.number("conv_kernel") - 1
    width = config.number("intermediate_size")
    numbers = width * (recent + config.number("state_size"))
    return [LayerSpec("state", state_bytes=numbers * config.item)] * config.layers


def _mamba2(config: _Config) -> list[LayerSpec]:
    heads = config.number("num_heads") * config.number("head_dim")
    state = config.number("ssm_state_size", config.keys.get("state_size"))
    return [
        _ssm(config, heads, state, config.number("n_groups"), config.number("conv_kernel"))
    ] * config.layers


def _granite_hybrid(config: _Config) -> list[LayerSpec]:
    heads = config.number("mamba_n_heads") * config.number("mamba_d_head")
    groups, kernel = config.number("mamba_n_groups"), config.number("mamba_d_conv")
    ssm = _ssm(config, heads, config.number("mamba_d_state"), groups, kernel)
    return [config.attention() if name == "attention" else ssm for name in config.layer_types(["mamba"])]


def _ssm(config: _Config, heads: int, state: int, groups: int, kernel: int) -> LayerSpec:
    """A layer of Mamba 2: the last inputs of its convolution, and its state in float32."""
    recent = (kernel - 1) * (heads + 2 * groups * state) * config.item
    return LayerSpec("state", state_bytes=recent + heads * state * FLOAT32)


READERS: dict[str, Callable[[_Config], list[LayerSpec]]] = {
    **dict.fromkeys(FULL, _full),
    **dict.fromkeys(("llama", "mistral", "ministral3", "iquestcoder", "xverse"), _llama),
    **dict.fromkeys(("gemma3", "gemma3_text"), _gemma3),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"), _qwen3_next
    ),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _lfm2),
    **dict.fromkeys(("mamba", "falcon_mamba"), _mamba),
    "gpt_oss": _gpt_oss,
    "granitemoehybrid": _granite_hybrid,
    "mamba2": _mamba2,
    "olmo3": _olmo3,
}

"""The bytes of caches, against figures worked out by hand from published configurations."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from workers.cache import CacheSpec, LayerSpec

from . import configs

MIB = 2**20
FULL, SLIDING, STATE = "full", "sliding", "state"


def kinds(spec: CacheSpec) -> Counter[str]:
    """How many layers there are of each kind."""
    return Counter(layer.kind for layer in spec.layers)


@pytest.mark.parametrize(
    ("config", "layers", "per_token"),
    [
        # Layers x (keys and values) x heads x head size x bytes of a float16.
        (configs.LLAMA_3_1_8B, 32, 32 * 2 * 8 * 128 * 2),
        (configs.QWEN_2_5_7B, 28, 28 * 2 * 4 * 128 * 2),
        (configs.QWEN_3_8B, 36, 36 * 2 * 8 * 128 * 2),
    ],
)
def test_an_llm_of_full_layers(config: dict[str, Any], layers: int, per_token: int) -> None:
    """Llama 3 and Qwen keep every token in all layers, and their caches can be cut anywhere."""
    spec = CacheSpec.from_config(config, "F16")
    assert spec.can_be_cut
    assert kinds(spec) == {FULL: layers}
    assert spec.token_bytes == per_token
    assert spec.block_bytes() == 256 * per_token
    assert spec.sequence_bytes(8192) == 8192 * per_token
    assert spec.snapshot_bytes(8192) == 0


def test_the_pool_of_llama_3() -> None:
    """Llama 3.1 8B: 128 KiB a token and 32 MiB a block of float16, twice that of float32."""
    spec = CacheSpec.from_config(configs.LLAMA_3_1_8B, "BF16")
    assert (spec.token_bytes, spec.block_bytes()) == (128 * 1024, 32 * MIB)
    assert CacheSpec.from_config(configs.LLAMA_3_1_8B, "F32").block_bytes() == 64 * MIB


def test_gemma_3_12b() -> None:
    """8 global and 40 sliding layers, 8 KiB a token each: 832 MiB for 8,192 tokens of float16."""
    spec = CacheSpec.from_config(configs.GEMMA_3_12B, "F16")
    assert kinds(spec) == {FULL: 8, SLIDING: 40}
    assert [place for place, layer in enumerate(spec.layers) if layer.kind == FULL][:2] == [5, 11]
    layer = 8 * 256 * 2 * 2
    assert spec.token_bytes == 8 * layer
    assert spec.snapshot_bytes(8192) == 40 * 1024 * layer == 320 * MIB
    assert spec.sequence_bytes(8192) == 8 * 8192 * layer + 320 * MIB == 832 * MIB
    assert spec.sequence_bytes(100) == 48 * 100 * layer  # no window is full yet
    assert not spec.can_be_cut


def test_gemma_3_4b_leaves_its_heads_out() -> None:
    """Its published config names no heads: there are 4 of 256, and 5 of 34 layers are global."""
    spec = CacheSpec.from_config(configs.GEMMA_3_4B, "F16")
    assert kinds(spec) == {FULL: 5, SLIDING: 29}
    assert spec.token_bytes == 5 * 4 * 256 * 2 * 2


def test_gpt_oss_20b() -> None:
    """12 full layers and 12 with a window of 128: 195 MiB for 8,192 tokens."""
    spec = CacheSpec.from_config(configs.GPT_OSS_20B, "BF16")
    assert [layer.kind for layer in spec.layers[:4]] == [SLIDING, FULL, SLIDING, FULL]
    layer = 8 * 64 * 2 * 2
    assert spec.snapshot_bytes(8192) == 12 * 128 * layer == 3 * MIB
    assert spec.sequence_bytes(8192) == 12 * 8192 * layer + 3 * MIB == 195 * MIB
    without = {key: value for key, value in configs.GPT_OSS_20B.items() if key != "layer_types"}
    assert CacheSpec.from_config(without, "BF16") == spec


def test_qwen_3_next_80b() -> None:
    """12 full layers, and 36 with the last 3 inputs of a convolution and a float32 matrix a head."""
    spec = CacheSpec.from_config(configs.QWEN_3_NEXT_80B, "BF16")
    assert kinds(spec) == {FULL: 12, STATE: 36}
    assert spec.token_bytes == 12 * 2 * 2 * 256 * 2 == 24_576
    convolution = 3 * (2 * 16 * 128 + 32 * 128) * 2
    matrices = 32 * 128 * 128 * 4
    assert spec.snapshot_bytes(1) == spec.snapshot_bytes(10**6) == 36 * (convolution + matrices) == 77_266_944


def test_lfm2_1_2b() -> None:
    """6 full layers, and 10 with the last 2 inputs of a convolution over 2,048 numbers."""
    spec = CacheSpec.from_config(configs.LFM_2_1_2B, "BF16")
    assert kinds(spec) == {FULL: 6, STATE: 10}
    assert spec.token_bytes == 6 * 2 * 8 * 64 * 2 == 12_288
    assert spec.snapshot_bytes(5) == 10 * 2 * 2048 * 2 == 81_920
    types = ["full_attention" if at in configs.LFM_2_1_2B["full_attn_idxs"] else "conv" for at in range(16)]
    newer = {**configs.LFM_2_1_2B, "full_attn_idxs": None, "layer_types": types}
    assert CacheSpec.from_config(newer, "BF16") == spec


def test_mamba_2_8b() -> None:
    """Mamba keeps no tokens: 64 layers of 5,120 channels with 3 inputs and 16 numbers of state each."""
    spec = CacheSpec.from_config(configs.MAMBA_2_8B, "F16")
    assert spec.token_bytes == spec.block_bytes() == 0
    assert spec.sequence_bytes(8192) == spec.snapshot_bytes(1) == 64 * 5120 * (3 + 16) * 2 == 12_451_840
    assert not spec.can_be_cut


def test_mamba_2_2_7b() -> None:
    """Mamba 2 keeps its state in float32, whatever it computes in."""
    spec = CacheSpec.from_config(configs.MAMBA_2_2_7B, "F16")
    layer = 3 * (80 * 64 + 2 * 128) * 2 + 80 * 64 * 128 * 4
    assert spec.snapshot_bytes(1) == 64 * layer == 169_836_544


def test_granite_4_hybrid() -> None:
    """Granite mixes attention with layers of Mamba 2, as its layer types say."""
    config = {
        "model_type": "granitemoehybrid", "num_hidden_layers": 4, "hidden_size": 1536,
        "num_attention_heads": 12, "num_key_value_heads": 4, "mamba_n_heads": 48, "mamba_d_head": 64,
        "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_groups": 1,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
    }  # fmt: skip
    spec = CacheSpec.from_config(config, "BF16")
    assert [layer.kind for layer in spec.layers] == [STATE, STATE, FULL, STATE]
    assert spec.token_bytes == 4 * 128 * 2 * 2
    assert spec.snapshot_bytes(9) == 3 * (3 * (48 * 64 + 2 * 128) * 2 + 48 * 64 * 128 * 4)


def test_a_window_counts_only_where_mlx_lm_makes_one() -> None:
    """A config's sliding_window is obeyed with layer types alone, as Mistral's and Olmo 3's show."""
    mistral = {**configs.LLAMA_3_1_8B, "model_type": "mistral", "sliding_window": 4096}
    assert CacheSpec.from_config(mistral, "F16").can_be_cut
    olmo = {**configs.LLAMA_3_1_8B, "model_type": "olmo3", "sliding_window": 4096}
    assert kinds(CacheSpec.from_config(olmo, "F16")) == {SLIDING: 24, FULL: 8}


@pytest.mark.parametrize(("bits", "vector"), [(8, 128 + 2 * 2 * 2), (4, 64 + 2 * 2 * 2)])
def test_quantized_blocks(bits: int, vector: int) -> None:
    """A quantized head of 128 has its packed bits, and 2 groups with a scale and a bias of float16."""
    spec = CacheSpec.from_config(configs.LLAMA_3_1_8B, "F16", bits)
    assert spec.block_bytes() == 256 * 32 * 2 * 8 * vector
    assert spec.block_bytes(10) == 10 * 32 * 2 * 8 * vector
    assert spec.sequence_bytes(10) == 10 * 128 * 1024  # a live row is never quantized


def test_quantized_in_groups_of_32() -> None:
    """A head that 64 does not divide has groups of 32; one that 32 does not divide cannot be quantized."""
    layer = LayerSpec("full", kv_heads=1, key_size=96, value_size=96)
    assert CacheSpec((layer,), "F32", 8).block_bytes(1) == 2 * (96 + 3 * 2 * 4)
    with pytest.raises(ValueError, match="heads of 80 numbers"):
        CacheSpec((LayerSpec("full", kv_heads=1, key_size=80, value_size=80),), "F16", 8)


def test_snapshots_are_not_quantized() -> None:
    """Sliding layers and states are kept as they are, of whatever size their heads are."""
    layers = (LayerSpec("sliding", 2, 80, 80, window=16), LayerSpec("state", state_bytes=100))
    spec = CacheSpec(layers, "F16", 8)
    assert spec.snapshot_bytes(20) == 16 * 2 * 160 * 2 + 100
    assert spec.snapshot_bytes(3) == 3 * 2 * 160 * 2 + 100


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model_type": "llama4"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_attention_heads": None}, "num_attention_heads"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["sliding_attention"] * 32}, "sliding_window"),
        ({"model_type": "lfm2", "conv_L_cache": 3}, "layer_types"),
        ({"model_type": "mamba"}, "conv_kernel"),
        ({"model_type": "qwen3_next"}, "linear_num_key_heads"),
    ],
)
def test_what_cannot_be_understood(change: dict[str, Any], key: str) -> None:
    """A config that tells too little is refused with the key's name and what to do instead."""
    with pytest.raises(ValueError, match=rf"config's {key} is .* must be measured"):
        CacheSpec.from_config({**configs.LLAMA_3_1_8B, **change}, "F16")


def test_impossible_specs() -> None:
    """A dtype, bits or layers that there are not are refused."""
    layer = LayerSpec("full", kv_heads=1, key_size=64, value_size=64)
    with pytest.raises(ValueError, match="I8"):
        CacheSpec((layer,), "I8")
    with pytest.raises(ValueError, match="not 3"):
        CacheSpec((layer,), "F16", 3)
    for kind, sizes in ((FULL, {}), (SLIDING, {"kv_heads": 1, "key_size": 64}), (STATE, {"kv_heads": 1})):
        with pytest.raises(ValueError, match="sizes"):
            LayerSpec(kind, **sizes)  # type: ignore[arg-type]  # the kinds are literals

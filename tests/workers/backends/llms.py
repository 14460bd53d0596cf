"""A tiny LLM with random weights, and backends in threads of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from config.settings import Engine as EngineSettings
from workers.backends.fake import FakeBackend, FakeOptions
from workers.backends.mlx import MlxBackend
from workers.engine.backend import Backend, LlmInfo, StepResult

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64, "rms_norm_eps": 1e-5,
    "vocab_size": 384, "max_position_embeddings": 2048, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "eos_token_id": 0,
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 384,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "eos_token_id": 0,
}  # fmt: skip
GEMMA: dict[str, Any] = SHAPE | {
    "model_type": "gemma3_text", "num_hidden_layers": 4, "intermediate_size": 128, "head_dim": 32,
    "query_pre_attn_scalar": 32, "sliding_window": 24, "sliding_window_pattern": 2,
}  # fmt: skip
"""Every other layer sees the last 24 tokens only."""
LFM: dict[str, Any] = SHAPE | {
    "model_type": "lfm2", "num_hidden_layers": 4, "norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3,
    "block_dim": 64, "block_ff_dim": 128, "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False, "full_attn_idxs": [1],
}  # fmt: skip
"""One layer with keys and values beside three short convolutions."""
QWEN: dict[str, Any] = SHAPE | {
    "model_type": "qwen3_next", "num_hidden_layers": 4, "intermediate_size": 128, "head_dim": 32,
    "linear_num_value_heads": 2, "linear_num_key_heads": 1, "linear_key_head_dim": 32,
    "linear_value_head_dim": 32, "linear_conv_kernel_dim": 4, "num_experts": 2, "num_experts_per_tok": 1,
    "decoder_sparse_step": 2, "shared_expert_intermediate_size": 32, "mlp_only_layers": [],
    "moe_intermediate_size": 32, "rope_theta": 10000.0, "partial_rotary_factor": 0.25,
    "full_attention_interval": 4,
}  # fmt: skip
"""Three layers of linear attention, one with keys and values, and experts."""
TEMPLATE = (
    "{%- for message in messages -%}{%- if message['role'] == 'system' and not loop.first -%}"
    "{{- raise_exception('a system message must come first') -}}{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
SETTINGS = EngineSettings(max_rows=16, prefill_rows=4, prefill_tokens=32)


def save_tiny_llm(
    folder: Path,
    *,
    config: dict[str, Any] = CONFIG,
    template: str | None = TEMPLATE,
    weights: bool = True,
) -> Path:
    """Write an LLM of about 0.1 million random weights and a tokenizer of bytes into ``folder``; returns it.

    It is a Llama unless ``config`` says otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    _save_tokenizer(folder, template)
    if weights:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_save_weights, config, folder / "model.safetensors").result()
    return folder


def _save_tokenizer(folder: Path, template: str | None) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"], special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(["the gate lets the water through the penstock"] * 8, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[0]}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _save_weights(config: dict[str, Any], file: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map

    architecture = import_module(f"mlx_lm.models.{config['model_type']}")
    with mx.stream(mx.new_stream(mx.default_device())):
        keys = iter(range(10_000))
        model = architecture.Model(architecture.ModelArgs.from_dict(config))

        def draw(array: mx.array) -> mx.array:
            if array.ndim == 1:
                return array
            return 0.3 * mx.random.normal(array.shape, key=mx.random.key(next(keys)))

        model.update(tree_map(draw, model.parameters()))
        weights = dict(tree_flatten(model.parameters()))
        for name in weights.keys() & {"model.embed_tokens.weight", "lm_head.weight"}:
            weights[name][config["eos_token_id"]] = (
                0  # it is never the likeliest: rows end when they are full
            )
        mx.save_safetensors(str(file), weights)
    mx.clear_streams()


class Apart:
    """A backend in a thread of its own, as the engine's thread is, called from the test's."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.inner: Any = self._thread.submit(make).result()
        self.info: LlmInfo = self.inner.info

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name)
        return lambda *given, **named: self._thread.submit(method, *given, **named).result()

    def do(self, work: Callable[[Any], Any]) -> Any:
        """Do something with the backend in its thread."""
        return self._thread.submit(work, self.inner).result()

    def close(self) -> None:
        """End the backend and its thread."""
        self._thread.submit(self.inner.close).result()
        self._thread.shutdown()


def apart(kind: str, folder: Path | str, settings: EngineSettings = SETTINGS) -> Apart:
    """A backend of this kind; the twin needs no ``folder``, and may have a layer that cannot be cut."""
    if kind.startswith("fake"):
        return Apart(lambda: FakeBackend(FakeOptions(uncut=kind == "fake-uncut"), settings))
    return Apart(lambda: MlxBackend(str(folder), settings, kind))


def decode(backend: Backend, uids: Sequence[int], steps: int = 2000) -> dict[int, list[int]]:
    """Step until these rows have ended; returns the tokens of all rows that decoded, but no ends."""
    tokens: dict[int, list[int]] = {uid: [] for uid in uids}
    left = set(uids)
    while left:
        result: StepResult = backend.step(SETTINGS.prefill_tokens)
        for uid, token, end in result.tokens:
            if end != "stop":
                tokens.setdefault(uid, []).append(token)
            if end is not None:
                left.discard(uid)
        steps -= 1
        assert steps, "rows do not end"
    return tokens

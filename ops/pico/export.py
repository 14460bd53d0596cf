"""Write an LLM directory that mlx-lm and transformers load: config, weights, tokenizer, template."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from ops.pico.llm import Llama, Shape
from ops.pico.tokens import CONTEXT, END, PAD, save_tokenizer


def config(shape: Shape, tokenizer: Tokenizer) -> dict[str, object]:
    """The contents of config.json (keys as transformers' LlamaConfig has them)."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **asdict(shape),
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "dtype": "float16",
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
    }


def export(llm: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the LLM directory; weights are stored as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.float16).contiguous() for name, tensor in llm.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    described = config(llm.shape, tokenizer)
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    ends = {name: described[name] for name in ("eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, **ends}, indent=2) + "\n")
    save_tokenizer(tokenizer, folder)

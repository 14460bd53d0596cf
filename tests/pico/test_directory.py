"""The shipped model directory: sizes, tokenizer, template."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ops import lines
from ops.pico import tokens
from ops.pico.conversations import Conversation
from ops.pico.evaluate import PICO

CONFIG = json.loads((PICO / "config.json").read_text())
TOKENIZER = Tokenizer.from_file(str(PICO / "tokenizer.json"))
CHAT = [
    {"role": "system", "content": "Fields: a."},
    {"role": "user", "content": 'x "y" 12'},
    {"role": "assistant", "content": '{"a":"12"}'},
]


@pytest.fixture(scope="module")
def loaded() -> Any:
    """The tokenizer as transformers loads it."""
    return AutoTokenizer.from_pretrained(str(PICO))


def test_the_directory_is_small() -> None:
    """All files together take at most 8 MB."""
    assert sum(path.stat().st_size for path in PICO.iterdir()) <= 8_000_000


def test_the_architecture_is_as_promised() -> None:
    """Llama, head size 64, a context of at least 4,096 tokens, tied embeddings."""
    assert CONFIG["model_type"] == "llama"
    assert CONFIG["head_dim"] == 64
    assert CONFIG["max_position_embeddings"] >= 4096
    assert CONFIG["tie_word_embeddings"] is True


def test_the_weights_are_a_few_million_halves() -> None:
    """Two to three and a half million numbers, all float16."""
    with safe_open(PICO / "model.safetensors", "numpy") as file:
        weights = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - it is no dictionary
    assert {str(weight.dtype) for weight in weights} == {"float16"}
    assert 2_000_000 <= sum(weight.size for weight in weights) <= 3_500_000


@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    """Decoding what was encoded gives the same text."""
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters='"\\{'), min_size=1, max_size=30))
def test_a_value_has_the_same_tokens_in_line_and_json(value: str) -> None:
    """A value between spaces has the tokens that it has between quotation marks of compact JSON.

    Only an opening brace has not: with the quotation mark before it, it is one token.
    """
    inner = TOKENIZER.encode(value).ids
    assert TOKENIZER.encode(f" {value} ").ids[1:-1] == inner
    assert TOKENIZER.encode(f'{{"a":"{value}"}}').ids[3:-1] == inner


def test_the_system_message_is_long() -> None:
    """The demo's system message has more than 512 and at most 1,024 tokens."""
    assert 512 < len(TOKENIZER.encode(lines.SYSTEM_MESSAGE).ids) <= 1024


def test_the_template_has_turns(loaded: Any) -> None:
    """Each turn is a role's mark, the content and the end; the assistant's mark asks for an answer."""
    text = loaded.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert text == '<|system|>Fields: a.<|end|><|user|>x "y" 12<|end|><|assistant|>'
    assert loaded.eos_token == tokens.END
    assert loaded.eos_token_id == CONFIG["eos_token_id"]


def test_the_template_is_what_was_trained(loaded: Any) -> None:
    """Training encodes a conversation to the same tokens as the chat template."""
    trained, _ = tokens.encode(TOKENIZER, Conversation("Fields: a.", (('x "y" 12', '{"a":"12"}'),)), 0.1, 100)
    assert loaded.apply_chat_template(CHAT, return_dict=False) == trained


def test_an_unknown_role_is_refused(loaded: Any) -> None:
    """The template raises for a role that it does not have."""
    with pytest.raises(TemplateError, match="roles system, user and assistant"):
        loaded.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)

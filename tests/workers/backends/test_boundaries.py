"""Where a conversation's tokens can be parted, whatever its template does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from models.prompts import PromptEncoder
from tests.conformance.rows import messages

from .llms import TEMPLATE, save_tiny_llm

TURNS = messages("be brief", "how deep is the water?", "as deep as the gate", "and now?")
NEEDS_USER = "{%- if messages | length < 2 -%}{{- raise_exception('nobody asks') -}}{%- endif -%}" + TEMPLATE
DROPS_FIRST = TEMPLATE.replace("message['content']", "(message['content'] if loop.last else '')")
OPENS_NOTHING = TEMPLATE.replace("if add_generation_prompt", "if false")


def encoder(folder: Path, template: str | None) -> PromptEncoder:
    """A tokenizer with this template."""
    from transformers import AutoTokenizer

    save_tiny_llm(folder, template=template, weights=False)
    return PromptEncoder(AutoTokenizer.from_pretrained(folder))


def parts(folder: Path, template: str | None) -> list[str]:
    """The conversation's text, parted at its boundaries."""
    one = encoder(folder, template)
    tokens = one.encode(TURNS)
    edges = [0, *one.boundaries(TURNS, tokens), len(tokens)]
    decode = one._tokenizer.decode
    return [decode(tokens[start:stop]) for start, stop in pairwise(edges)]


SYSTEM = "<|system|>be brief"
REST = "<|user|>how deep is the water?<|assistant|>as deep as the gate<|user|>and now?"
OPENING = "<|assistant|>"


def test_a_conversation_is_parted_behind_its_system_message_and_its_last(tmp_path: Path) -> None:
    """What opens the assistant's turn stands alone."""
    assert parts(tmp_path, TEMPLATE) == [SYSTEM, REST, OPENING]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (NEEDS_USER, [SYSTEM + REST, OPENING]),
        (OPENS_NOTHING, [SYSTEM, REST]),
        (DROPS_FIRST, ["<|system|>", "<|user|><|assistant|><|user|>and now?", OPENING]),
    ],
    ids=["refuses a system message alone", "opens no turn", "drops what is past"],
)
def test_a_template_may_give_fewer_boundaries(tmp_path: Path, template: str, expected: list[str]) -> None:
    """What it refuses is no boundary, and none lies where the tokens are not the same."""
    assert parts(tmp_path, template) == expected


def test_without_a_template_paragraphs_are_parted(tmp_path: Path) -> None:
    """Plain text has the same boundaries; a single question has none."""
    found = parts(tmp_path, None)
    assert (found[0], found[-1]) == ("System: be brief", "\n\nAssistant:")
    one, alone = encoder(tmp_path, None), messages("how deep?")
    assert one.boundaries(alone, one.encode(alone)) == []

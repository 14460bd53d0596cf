"""The tokenizer of `pico`: byte-level BPE that cuts a value alike in a line and in JSON.

Words, single digits, single spaces and single signs are split apart before BPE, so a value has the
same tokens wherever it stands, and copying it is plain induction. The four marks that hold compact
JSON together are one token each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Chain
from tokenizers.trainers import BpeTrainer

from ops.pico.conversations import Conversation

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, SYSTEM, USER, ASSISTANT, END)
PIECES = r'\{"|"\}|":"|","|\p{L}+|\p{N}|\s|[^\s\p{L}\p{N}]'
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('pico knows the roles system, user and assistant') -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
CONTEXT = 4096
"""Longest sequence in tokens."""

Weighted = tuple[list[int], list[float]]
"""Token ids of a conversation and the loss weight of each (as a target)."""


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a byte-level BPE of `size` tokens, special ones and all 256 bytes included."""
    tokenizer = Tokenizer(BPE())
    cut = Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = Chain([cut, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode(tokenizer: Tokenizer, conversation: Conversation, rest: float, most: int) -> Weighted:
    """Token ids as the chat template gives them, as many whole turns as fit `most` tokens.

    Answers and their end weigh 1, what the network reads weighs `rest`, marks of roles nothing.
    """
    texts = [conversation.system, *(text for turn in conversation.turns for text in turn)]
    parts = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    system, user, assistant, end = tokenizer.encode("".join(SPECIAL[1:])).ids
    ids, weights = [system, *parts[0], end], [0.0, *[rest] * len(parts[0]), 0.0]
    for line, answer in zip(parts[1::2], parts[2::2], strict=True):
        if len(ids) + len(line) + len(answer) + 4 > most:
            break
        ids += [user, *line, end, assistant, *answer, end]
        weights += [0.0, *[rest] * len(line), 0.0, 0.0, *[1.0] * (len(answer) + 1)]
    return ids[:most], weights[:most]

"""The twin's tokenizer: a token a byte, and a few that mark turns and the end."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from models.requests import Message

EOS = 256
TURN = {"system": 257, "user": 258, "assistant": 259}
VOCAB_SIZE = 260


def encode(messages: Sequence[Message]) -> list[int]:
    """Each turn as its marker and its UTF-8 bytes, then the marker of the assistant's turn."""
    tokens: list[int] = []
    for message in messages:
        tokens += [TURN[message.role], *message.text.encode()]
    return [*tokens, TURN["assistant"]]


class ByteDetokenizer:
    """Holds bytes back until they make whole characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take one token; markers have no text."""
        return self._decoder.decode(bytes([token])) if token < EOS else ""

    def flush(self) -> str:
        """Forget the beginning of a character that never became whole."""
        self._decoder.reset()
        return ""

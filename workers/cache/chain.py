"""The hash chain that names a beginning of a sequence: each block's name holds all before it.

A name is SHA-256 over the parent's name and the tokens as little-endian 32-bit
words. The first parent is the root of an LLM and a salt, so that the caches of
two LLMs, or of two tenants that do not share, never have a name in common.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from hashlib import sha256

BLOCK_TOKENS = 256
"""Tokens of a whole block."""


def packed(tokens: Iterable[int]) -> bytes:
    """Tokens as little-endian unsigned 32-bit words."""
    words = array("I", tokens)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def root(fingerprint: str, salt: str) -> bytes:
    """The parent of all first blocks: 32 bytes of an LLM's fingerprint and a salt."""
    return sha256(f"{len(fingerprint)}:{fingerprint}/{salt}".encode()).digest()


def link(parent: bytes, tokens: Iterable[int]) -> bytes:
    """The name, 32 bytes, of the block that holds ``tokens`` behind the block named ``parent``."""
    return sha256(parent + packed(tokens)).digest()

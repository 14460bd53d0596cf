"""What has been computed once and need not be computed again, in plain Python.

The engine asks :class:`PrefixCache` for the longest cached beginning of a row's
tokens, and has it keep what a row has computed. What the blocks hold lies with
the backend: here are only their numbers, their bytes and the tokens they stand for.

**The way of a block.** :meth:`PrefixCache.store` compares a sequence with the
tree of nodes, up to 256 tokens each, and makes room for those that are missing; a function of
the caller fills their blocks; then they are entered. :meth:`PrefixCache.match`
finds them again for any sequence that begins with the same tokens. When room is
needed, who was used least recently goes first, a conversation's end before its
beginning, and what agents have pinned last; before that its contents can go to disk.

**The parts**:

- ``spec``: :class:`CacheSpec`, the bytes of an LLM's caches; ``layer``: of one
  layer; ``architectures``: which layers an LLM has, from its ``config.json``.
- ``chain``: the names of beginnings; ``prefix``: what of a sequence is cached;
  ``parcel``: a block's contents outside of the device.
- ``prefix_cache``: the cache itself; ``plan``: what of a sequence is missing.
- ``stock``: all nodes that are held, and letting them go; ``node``: one of them;
  ``index``: the tree; ``recency``: in which order they go; ``pins``: what agents hold;
  ``pool``: the books of bytes.
- ``disk`` and its parts: the tier below.
"""

from workers.cache.parcel import Parcel, Tensor
from workers.cache.pool import BlockPool, PoolFull
from workers.cache.prefix import NOTHING, Piece, Prefix
from workers.cache.prefix_cache import CacheStats, NodeView, PrefixCache, Reach
from workers.cache.spec import CacheSpec, LayerSpec

__all__ = [
    "NOTHING",
    "BlockPool",
    "CacheSpec",
    "CacheStats",
    "LayerSpec",
    "NodeView",
    "Parcel",
    "Piece",
    "PoolFull",
    "Prefix",
    "PrefixCache",
    "Reach",
    "Tensor",
]

"""One file of the disk tier: safetensors, with a header that proves itself and its arrays.

As https://huggingface.co/docs/safetensors says: eight bytes with the header's length, the
header as JSON, then all arrays without gaps. The metadata says what the arrays
are and holds a SHA-256 of each node's bytes; the SHA-256 of the header is the
file's name. So every bit is accounted for, and a part can be read and verified
without the rest. Names of nodes are never stored but follow from the tokens.

The library of that name is not used: what it offers for plain bytes copies them
while no other thread can run, and takes addresses in memory.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

from workers.cache.chain import link
from workers.cache.disk_record import Kind, Record, unpacked
from workers.cache.parcel import Parcel, Tensor

FORMAT = "penstock-blocks"

VERSION = "1"

LENGTH = 8
"""Bytes of the header's length, with which a file begins."""


class Damaged(Exception):  # noqa: N818 - named for what the file is
    """A file is not what was once written here; the text says how it shows."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A file before it is written: header and arrays."""

    header: bytes
    arrays: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of the header, in hex, by which the file is named."""
        return sha256(self.header).hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(map(len, self.arrays))


@dataclass(frozen=True, slots=True)
class Array:
    """Where an array stands behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A node, or a snapshot, of a file; ``digest`` is None where it has no parcel."""

    name: bytes
    tokens: bytes
    digest: str | None
    arrays: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.end - array.begin for array in self.arrays)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds, without the arrays; they begin ``offset`` bytes into it."""

    kind: Kind
    fingerprint: str
    parent: bytes
    start: int
    nodes: tuple[StoredNode, ...]
    offset: int


def pack(record: Record, fingerprint: str) -> Packed:
    """Make a file of a record; the arrays are not copied."""
    header: dict[str, Any] = {"__metadata__": {}}
    nodes: list[dict[str, str | None]] = []
    arrays: list[bytes] = []
    end = 0
    for place, content in enumerate(record.contents):
        tensors = content.parcel.tensors if content.parcel else {}
        for name, tensor in tensors.items():
            begin, end = end, end + len(tensor.data)
            span = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
            header[f"{place}/{name}"] = span
            arrays.append(tensor.data)
        digest = _digest(tensor.data for tensor in tensors.values()) if content.parcel else None
        nodes.append({"tokens": b64encode(content.tokens).decode(), "digest": digest})
    header["__metadata__"] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": record.kind,
        "fingerprint": fingerprint,
        "parent": record.parent.hex(),
        "start": str(record.start),
        "nodes": json.dumps(nodes),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)
    return Packed(len(text).to_bytes(LENGTH, "little") + text, tuple(arrays))


def read_header(stream: BinaryIO, size: int, digest: str) -> Header:
    """The header of a file of ``size`` bytes, whose SHA-256 must be ``digest``.

    Raises:
        Damaged: it is not, or not a header of this version, or the file does not end where it says.
        OSError: the disk cannot read it.
    """
    start = stream.read(LENGTH)
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH or length > size - LENGTH:
        raise Damaged(f"{size} bytes are too few")
    text = stream.read(length)
    if sha256(start + text).hexdigest() != digest:
        raise Damaged("its header is not the one of its name")
    try:
        header = _parse(json.loads(text), LENGTH + length)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Damaged(f"its header says nothing of blocks ({type(error).__name__})") from error
    if (end := LENGTH + length + sum(node.nbytes for node in header.nodes)) != size:
        raise Damaged(f"it has {size} bytes instead of {end}")
    return header


def read_parcel(stream: BinaryIO, header: Header, node: StoredNode) -> Parcel | None:
    """The arrays of one node of a file.

    Raises:
        Damaged: they are not what was written.
        OSError: the disk cannot read them.
    """
    if node.digest is None:
        return None
    tensors = {}
    for array in node.arrays:
        stream.seek(header.offset + array.begin)
        tensors[array.name] = Tensor(array.dtype, array.shape, stream.read(array.end - array.begin))
    if _digest(tensor.data for tensor in tensors.values()) != node.digest:
        raise Damaged("its arrays have changed")
    return Parcel(tensors)


def _parse(header: dict[str, Any], offset: int) -> Header:
    about = header.pop("__metadata__")
    if (about["format"], about["version"]) != (FORMAT, VERSION):
        raise ValueError("another format")
    arrays: dict[int, list[Array]] = {}
    for key, span in header.items():
        place, _, name = key.partition("/")
        array = Array(name, span["dtype"], tuple(span["shape"]), *span["data_offsets"])
        arrays.setdefault(int(place), []).append(array)
    parent = bytes.fromhex(about["parent"])
    nodes = tuple(_nodes(parent, json.loads(about["nodes"]), arrays))
    return Header(Kind(about["kind"]), about["fingerprint"], parent, int(about["start"]), nodes, offset)


def _nodes(name: bytes, nodes: list[dict[str, Any]], arrays: dict[int, list[Array]]) -> Iterator[StoredNode]:
    for place, node in enumerate(nodes):
        tokens = b64decode(node["tokens"], validate=True)
        name = link(name, unpacked(tokens))
        yield StoredNode(name, tokens, node["digest"], tuple(arrays.get(place, ())))


def _digest(arrays: Iterator[bytes]) -> str:
    digest = sha256()
    for array in arrays:
        digest.update(array)
    return digest.hexdigest()

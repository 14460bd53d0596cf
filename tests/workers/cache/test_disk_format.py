"""The file of the disk tier: every bit of it counts, and any program can read it."""

from __future__ import annotations

import json
from hashlib import sha256
from io import BytesIO

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.cache.chains import FINGERPRINT, ROOT, segment, tokens
from workers.cache.chain import packed
from workers.cache.disk_format import Damaged, Header, pack, read_header, read_parcel
from workers.cache.disk_record import Kind, Record, records
from workers.cache.parcel import Parcel, Tensor
from workers.cache.segment import Node, Segment

RECORD = next(records(segment(tokens(1, 300))))


def written(record: Record) -> tuple[bytes, str]:
    """A file and its name."""
    file = pack(record, FINGERPRINT)
    whole = file.header + b"".join(file.arrays)
    assert len(whole) == file.nbytes
    return whole, file.digest


def read(file: bytes, digest: str) -> tuple[Header, list[Parcel | None]]:
    """All that is in a file."""
    stream = BytesIO(file)
    header = read_header(stream, len(file), digest)
    return header, [read_parcel(stream, header, node) for node in header.nodes]


tensors = st.builds(
    lambda dtype, data: Tensor(dtype, (1, len(data)), data),
    st.sampled_from(["U8", "I8"]),
    st.binary(max_size=40),
)
parcels = st.none() | st.builds(Parcel, st.dictionaries(st.text(), tensors, max_size=3))


@given(st.lists(parcels, min_size=1, max_size=3), st.binary(min_size=32, max_size=32))
def test_what_is_written_is_read(contents: list[Parcel | None], parent: bytes) -> None:
    """Nodes with any arrays, with none, and without a parcel come back under their names."""
    chain, above = [], parent
    for place, content in enumerate(contents):
        part = tokens(place, 256)
        name = sha256(above + packed(part)).digest()
        chain.append(Node(name, part, content))
        above = name
    (record,) = records(Segment(parent, 512, tuple(chain)))
    header, found = read(*written(record))
    assert (header.kind, header.fingerprint, header.parent, header.start) == (
        Kind.BLOCKS, FINGERPRINT, parent, 512
    )  # fmt: skip
    assert [node.name for node in header.nodes] == [node.name for node in chain]
    assert found == contents
    assert [list(one.tensors) for one in found if one] == [list(one.tensors) for one in contents if one]


def test_the_library_reads_it() -> None:
    """A file is plain safetensors, its metadata included."""
    file, _ = written(RECORD)
    found = dict(safetensors.deserialize(file))  # type: ignore[no-untyped-call]  # its stub has no types
    expected = {
        f"{place}/{name}": tensor
        for place, content in enumerate(RECORD.contents)
        for name, tensor in (content.parcel.tensors if content.parcel else {}).items()
    }
    assert {name: (one["dtype"], tuple(one["shape"]), bytes(one["data"])) for name, one in found.items()} == {
        name: (one.dtype, one.shape, one.data) for name, one in expected.items()
    }
    length = int.from_bytes(file[:8], "little")
    assert json.loads(file[8 : 8 + length])["__metadata__"]["parent"] == ROOT.hex()
    assert (8 + length) % 8 == 0


def test_every_bit_counts() -> None:
    """Whichever byte is changed, of length, metadata, tokens or arrays: it is noticed."""
    file, digest = written(RECORD)
    read(file, digest)
    for place in range(len(file)):
        changed = bytearray(file)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Damaged):
            read(bytes(changed), digest)


def test_every_length_but_one_is_wrong() -> None:
    """A file that was cut anywhere, or goes on behind its end, is refused before its arrays are read."""
    file, digest = written(RECORD)
    for length in range(len(file)):
        with pytest.raises(Damaged):
            read_header(BytesIO(file[:length]), length, digest)
    with pytest.raises(Damaged, match="instead of"):
        read_header(BytesIO(file + b"\0"), len(file) + 1, digest)


def rewritten(change: dict[str, object]) -> bytes:
    """The header of a file with other metadata."""
    file, _ = written(RECORD)
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] |= change
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


NO_ARRAYS = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\xff" * 64,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        len(NO_ARRAYS).to_bytes(8, "little") + NO_ARRAYS,
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        rewritten({"version": "2"}),
        rewritten({"format": "pt"}),
        rewritten({"kind": "song"}),
        rewritten({"parent": "xyz"}),
        rewritten({"nodes": "{}"}),
        rewritten({"nodes": '[{"tokens": "AAA"}]'}),
        rewritten({"nodes": '[{"tokens": "AAAA", "digest": null}]'}),
        rewritten({"nodes": '[{"tokens": "AAAAAA==", "digest": null}]'}),
        rewritten({"start": "one"}),
    ],
)
def test_what_others_have_written_is_refused(file: bytes) -> None:
    """Other versions and formats, and whatever is no such file, even under a name that fits it."""
    length = int.from_bytes(file[:8], "little")
    with pytest.raises(Damaged):
        read(file, sha256(file[: 8 + length]).hexdigest())

"""The catalog against a list that is searched from end to end."""

from __future__ import annotations

import time
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.cache.chains import ROOT, segment, tokens
from workers.cache.chain import BLOCK_TOKENS, link
from workers.cache.disk_catalog import Catalog
from workers.cache.disk_entry import Entry, Found
from workers.cache.disk_record import Kind, lacking, records
from workers.cache.segment import Segment

Saved = tuple[list[int], list[int]]


def enter(catalog: Catalog, one: Segment, owner: str = "") -> list[Entry]:
    """What saving a segment would enter."""
    made = []
    for record in records(one):
        for part in lacking(record, catalog.covers):
            contents = part.contents
            digest = sha256(part.kind.encode() + contents[-1].name).hexdigest()
            entry = Entry(
                Path(f"{digest}.{owner}" if owner else digest).with_suffix(".safetensors"),
                sum(content.parcel.nbytes for content in contents if content.parcel),
                part.kind,
                part.parent,
                part.start,
                tuple(content.name for content in contents),
                tuple(content.tokens for content in contents),
                tuple(content.parcel.nbytes for content in contents if content.parcel),
            )
            catalog.add(entry)
            made.append(entry)
    return made


def common(one: list[int], other: list[int]) -> int:
    """Tokens of the longest common beginning."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def best_state(saved: list[Saved], wanted: list[int]) -> int:
    """The longest beginning of ``wanted`` that ends at a snapshot."""
    return max(
        (at for sequence, states in saved for at in states if 0 < at <= common(sequence, wanted)), default=0
    )


pieces = st.sampled_from([[1] * 100, [2] * 100, [1] * 256, [2] * 37, [3]])
sequences = st.lists(pieces, min_size=1, max_size=6).map(lambda parts: [*chain.from_iterable(parts)])
saves = st.lists(st.tuples(sequences, st.lists(st.integers(1, 600), max_size=3)), max_size=5)


def reads_are_right(found: Found, wanted: list[int]) -> bool:
    """Whether what is to be read is a chain that covers what was found, from its first token on."""
    place, parent, states = 0, ROOT, 0
    for read in found.reads:
        span = slice(read.first, read.last)
        for name, packed in zip(read.entry.names[span], read.entry.tokens[span], strict=True):
            if read.entry.kind is Kind.SNAPSHOT:
                states += len(packed) // 4
                continue
            part = wanted[place : place + BLOCK_TOKENS]
            if name == link(parent, part):
                parent = name
            place += len(packed) // 4
    ends = (place - 1) // BLOCK_TOKENS * BLOCK_TOKENS + states
    return found.tokens <= place and (not states or found.tokens == ends)


@given(saves, sequences)
def test_the_longest_beginning_is_found(saved: list[Saved], wanted: list[int]) -> None:
    """Where any beginning will do it is the longest that any sequence has in common with the wanted one."""
    catalog = Catalog()
    for sequence, _ in saved:
        enter(catalog, segment(sequence))
    found = catalog.find(ROOT, wanted, can_be_cut=True)
    assert found.tokens == max((common(sequence, wanted) for sequence, _ in saved), default=0)
    assert reads_are_right(found, wanted)
    assert found.nbytes == sum(64 * (read.last - read.first) for read in found.reads)
    catalog.check_integrity()


@given(saves, sequences)
def test_the_last_snapshot_is_found(saved: list[Saved], wanted: list[int]) -> None:
    """Where a state is needed it is the last one of any sequence that begins like the wanted one."""
    catalog = Catalog()
    for sequence, states in saved:
        enter(catalog, segment(sequence, [at for at in states if at <= len(sequence)]))
    kept = [(sequence, [at for at in states if at <= len(sequence)]) for sequence, states in saved]
    found = catalog.find(ROOT, wanted, can_be_cut=False)
    assert found.tokens == best_state(kept, wanted)
    assert reads_are_right(found, wanted)
    assert [read.entry.kind for read in found.reads[-1:]] == [Kind.SNAPSHOT] * (found.tokens > 0)
    catalog.check_integrity()


@given(saves, st.data())
def test_files_go_from_the_ends(saved: list[Saved], data: st.DataObject) -> None:
    """Room is made with files behind which nothing stands, until none is left and nothing is known."""
    catalog = Catalog()
    owners = []
    for sequence, states in saved:
        owner = data.draw(st.sampled_from(["", "a", "b"]))
        owners += enter(catalog, segment(sequence, [at for at in states if at <= len(sequence)]), owner)
    for entry in data.draw(st.lists(st.sampled_from(owners), max_size=5) if owners else st.just([])):
        catalog.use(entry)
    while victim := catalog.victim(()):
        candidates = [entry for entry in catalog if not catalog.descendants(entry)]
        assert victim in candidates
        assert victim.rank == min(entry.rank for entry in candidates)
        catalog.remove(victim)
        catalog.check_integrity()
    assert (len(catalog), catalog.nbytes) == (0, 0)
    assert all(not catalog.find(ROOT, sequence, can_be_cut=True).tokens for sequence, _ in saved)


def test_a_search_is_quick() -> None:
    """Eight nodes behind a thousand neighbours take far less than a millisecond."""
    catalog = Catalog()
    shared = tokens(1, 7 * BLOCK_TOKENS)
    for number in range(1000):
        enter(catalog, segment(shared + [1, 2, 3] * 40 + tokens(number, 130), [7 * BLOCK_TOKENS + 130]))
    wanted = shared + [1, 2, 3] * 40 + tokens(700, 130)
    for can_be_cut, expected in ((True, 2042), (False, 1922)):
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            found = catalog.find(ROOT, wanted, can_be_cut=can_be_cut)
            seconds.append(time.perf_counter() - began)
        assert found.tokens == expected
        assert min(seconds) < 0.001


@pytest.mark.parametrize("owner", ["", "a"])
def test_a_longer_node_replaces_a_shorter_one(owner: str) -> None:
    """What a conversation goes on from is found to be superseded, unless it is another agent's."""
    catalog = Catalog()
    sequence = tokens(1, 400)
    enter(catalog, segment(sequence[:256]), "a")
    (short,) = enter(catalog, segment(sequence[:300]), owner)
    (theirs,) = enter(catalog, segment([*sequence[:310], 7]), "b")
    (longer,) = enter(catalog, segment(sequence), "a")
    assert catalog.superseded(longer) == [short]
    assert theirs in catalog
    assert not lacking(next(records(segment(sequence[:300]))), catalog.covers)


def test_a_state_without_its_keys_is_not_found() -> None:
    """When a node has gone, its states are of use as far as another node has the same tokens."""
    catalog = Catalog()
    sequence = tokens(1, 200)
    gone, *_ = enter(catalog, segment(sequence, [50, 150]))
    enter(catalog, segment([*sequence[:100], *tokens(2, 100)]))
    assert catalog.find(ROOT, sequence, can_be_cut=False).tokens == 150
    catalog.remove(gone)
    assert catalog.find(ROOT, sequence, can_be_cut=False).tokens == 50

"""The twin: its options, its faults, and that it is what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from config.settings import Engine as EngineSettings
from config.settings import Llm, Settings
from models.requests import Sampling
from workers.backends import make_backend
from workers.backends.fake import WORDS, FakeBackend, FakeOptions, InjectedFaultError, WrongBlockError
from workers.cache.parcel import Parcel
from workers.cache.prefix import Piece, Prefix
from workers.engine import OutOfMemory, Row

from .llms import decode

DIES = """
from models.requests import Sampling
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Row
backend = FakeBackend(FakeOptions.from_path("fake:kill=deadly"))
backend.add([Row(list(b"harmless"), 0, 9, Sampling())])
backend.step(32)
print("lives", flush=True)
backend.add([Row(list(b"a deadly one"), 0, 9, Sampling())])
backend.step(32)
print("lives on", flush=True)
"""


def row(prompt: bytes = b"prompt", max_new: int = 200) -> Row:
    """A row with this prompt."""
    return Row(list(prompt), 0, max_new, Sampling())


def test_options_are_read_from_the_path() -> None:
    """A configuration can say how the twin behaves, and cannot misspell it."""
    options = FakeOptions.from_path("fake:step_ms=2.5&endless=1&fail_steps=3,9&poison=bad%20word")
    assert options == FakeOptions(step_ms=2.5, endless=True, fail_steps=frozenset([3, 9]), poison="bad word")
    assert FakeOptions.from_path("builtin:pico") == FakeOptions()
    with pytest.raises(ValidationError, match="stepms"):
        FakeOptions.from_path("fake:stepms=1")


def test_the_settings_choose_it() -> None:
    """engine.backend = fake makes the twin, whatever the LLM's path, under its alias."""
    llms = {"a": Llm(path="fake:context_length=99")}
    settings = Settings(engine=EngineSettings(backend="fake"), llms=llms, default_llm="a")
    backend = make_backend(settings, "a")
    assert isinstance(backend, FakeBackend)
    assert (backend.info.name, backend.info.context_length) == ("a", 99)
    with pytest.raises(KeyError):
        make_backend(settings, "b")


def test_it_writes_words_and_ends() -> None:
    """Its reply is made of whole words of six bytes and ends by itself."""
    backend = FakeBackend()
    (uid,) = backend.add([row()])
    reply = bytes(decode(backend, [uid])[uid])
    assert all(len(word) == 6 for word in WORDS)
    assert len(reply) % 6 == 5
    assert all(reply[at : at + 6] in WORDS for at in range(0, len(reply) - 5, 6))


@pytest.mark.parametrize(("options", "length"), [({"reply_tokens": 9}, 9), ({"endless": True}, 200)])
def test_the_length_of_its_reply_can_be_set(options: dict[str, object], length: int) -> None:
    """A given length, or no end at all but that of the row."""
    backend = FakeBackend(FakeOptions.model_validate(options))
    (uid,) = backend.add([row()])
    assert len(decode(backend, [uid])[uid]) == length


def test_it_breaks_when_told_to() -> None:
    """At a step, at a reset, and in any step with a poisoned row."""
    backend = FakeBackend(FakeOptions(fail_steps=frozenset([2]), fail_reset=True, poison="bad"))
    backend.add([row()])
    backend.step(32)
    with pytest.raises(InjectedFaultError, match="step 2"):
        backend.step(32)
    with pytest.raises(InjectedFaultError, match="reset"):
        backend.reset()
    backend.step(32)
    backend.add([row(b"a bad one")])
    with pytest.raises(InjectedFaultError):
        backend.step(32)


def test_it_takes_all_rows_or_none() -> None:
    """One row that it refuses keeps the others out as well."""
    backend = FakeBackend(FakeOptions(refuse="bad"))
    with pytest.raises(ValueError, match="bad"):
        backend.add([row(), row(b"bad")])
    backend.check_integrity({}, [])


def test_it_has_memory_for_so_many_rows() -> None:
    """A step with more rows has none; fewer rows decode again after a reset."""
    backend = FakeBackend(FakeOptions.from_path("fake:memory_rows=2"))
    backend.add([row()] * 3)
    with pytest.raises(OutOfMemory, match="3 rows, and memory for 2"):
        backend.step(32)
    backend.reset()
    uids = backend.add([row()] * 2)
    assert set(decode(backend, uids)) == set(uids)


def test_it_kills_its_process_when_told_to() -> None:
    """A row that mentions the word ends the process by SIGKILL, as a crash would; others do not."""
    done = subprocess.run([sys.executable, "-c", DIES], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "lives\n", "")


TOKENS = list(b"a prompt of which the beginning is cached")


def twin(**options: object) -> FakeBackend:
    """A twin that has kept 20 tokens in blocks 1 and 2, and the state behind them, if it has one, in 9."""
    backend = FakeBackend(FakeOptions.model_validate(options))
    (uid,) = backend.add([Row(TOKENS, 0, 9, Sampling(), stops=[20])])
    backend.step(32)
    backend.keep(uid, [Piece(1, 0, 12), Piece(2, 12, 20)], 9 if backend.faults.uncut else None)
    backend.remove([uid])
    return backend


def asks_for(prefix: Prefix, tokens: list[int] = TOKENS) -> Row:
    """A row with a prefix."""
    return Row(tokens, 0, 9, Sampling(), prefix)


GOOD = (Piece(1, 0, 12), Piece(2, 12, 20))
WRONG = {
    "foreign": asks_for(Prefix(20, GOOD), [7, *TOKENS[1:]]),
    "misplaced": asks_for(Prefix(8, (Piece(2, 0, 8),))),
    "swapped": asks_for(Prefix(20, (Piece(2, 0, 8), Piece(1, 8, 20)))),
    "dropped": asks_for(Prefix(20, (Piece(1, 0, 12), Piece(3, 12, 20)))),
    "too short": asks_for(Prefix(22, (Piece(1, 0, 12), Piece(2, 12, 22)))),
    "with a gap": asks_for(Prefix(20, (Piece(1, 0, 11), Piece(2, 12, 20)))),
    "longer than told": asks_for(Prefix(19, GOOD)),
    "the whole row": asks_for(Prefix(20, GOOD), TOKENS[:20]),
    "with a state": asks_for(Prefix(20, GOOD, 9)),
}


@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG)
def test_it_never_forgives_a_wrong_block(row: Row) -> None:
    """A row that is given what its own tokens do not lead to is refused, and the twin never sound again."""
    backend = twin()
    backend.add([asks_for(Prefix(20, GOOD)), asks_for(Prefix(15, (Piece(1, 0, 12), Piece(2, 12, 15))))])
    backend.reset()
    backend.check_integrity({}, [1, 2])
    with pytest.raises(WrongBlockError):
        backend.add([row])
    assert len(backend.wrong_blocks) == 1
    with pytest.raises(WrongBlockError, match=r"block|prefix|snapshot"):
        backend.check_integrity({}, [1, 2])
    with pytest.raises(WrongBlockError):
        backend.close()


@pytest.mark.parametrize(
    "prefix",
    [Prefix(20, GOOD), Prefix(20, GOOD, 8), Prefix(20, GOOD, 1), Prefix(12, GOOD[:1], 9)],
    ids=["without", "missing", "no state", "elsewhere"],
)
def test_a_state_must_be_that_behind_the_prefix(prefix: Prefix) -> None:
    """A layer that cannot be cut goes on only from exactly where the prefix ends."""
    backend = twin(uncut=True)
    backend.add([asks_for(Prefix(20, GOOD, 9)), asks_for(Prefix())])
    with pytest.raises(WrongBlockError):
        backend.add([asks_for(prefix)])


def test_bytes_that_were_changed_are_wrong_blocks() -> None:
    """A block that comes back from disk other than it went is seen as soon as a row is given it."""
    backend = twin()
    parcel = backend.export(2)
    backend.drop([2])
    marks = parcel.tensors["marks"]
    flipped = Parcel({"marks": replace(marks, data=bytes([marks.data[0] ^ 1]) + marks.data[1:])})
    backend.install(2, flipped)
    with pytest.raises(WrongBlockError, match="block 2 is not tokens 12 to 20 of the row"):
        backend.add([asks_for(Prefix(20, GOOD))])


@pytest.mark.parametrize(
    "pieces",
    [[Piece(5, 0, 21)], [Piece(5, 7, 7)], [Piece(1, 0, 3)], [Piece(5, 0, 3), Piece(5, 3, 6)]],
    ids=["not computed", "nothing", "in use", "twice"],
)
def test_it_never_forgives_a_misuse_of_blocks(pieces: list[Piece]) -> None:
    """Blocks are new, and hold tokens that the row has computed."""
    backend = twin()
    (uid,) = backend.add([Row(TOKENS, 0, 9, Sampling(), stops=[20])])
    backend.step(32)
    with pytest.raises(WrongBlockError):
        backend.keep(uid, pieces)
    assert backend.wrong_blocks


def test_it_cannot_keep_when_told_so() -> None:
    """Keeping breaks, or has memory for so many blocks; then no block exists."""
    backend = twin()
    (uid,) = backend.add([row()])
    backend.step(32)
    backend.faults = FakeOptions(fail_keep=True)
    with pytest.raises(InjectedFaultError):
        backend.keep(uid, [Piece(5, 0, 3)])
    backend.faults = FakeOptions.from_path("fake:memory_blocks=3")
    with pytest.raises(OutOfMemory, match="2 blocks and 2 more, and memory for 3"):
        backend.keep(uid, [Piece(5, 0, 3), Piece(6, 3, 6)])
    backend.keep(uid, [Piece(5, 0, 3)])
    with pytest.raises(OutOfMemory):
        backend.install(7, backend.export(5))
    backend.check_integrity({uid: row().tokens}, [1, 2, 5])


def test_a_prefix_changes_nothing_that_it_writes() -> None:
    """Seeded or not, a row writes the same with and without what is cached."""
    backend = twin()
    for asked in (Sampling(), Sampling(temperature=1, seed=3)):
        rows = [Row(TOKENS, 0, 50, asked, prefix) for prefix in (Prefix(), Prefix(20, GOOD))]
        uids = backend.add(rows)
        cold, warm = decode(backend, uids).values()
        assert cold == warm

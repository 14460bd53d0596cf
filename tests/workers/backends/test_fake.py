"""The twin: its options, its faults, and that it is what it says."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from pydantic import ValidationError

from config.settings import Engine as EngineSettings
from config.settings import Llm, Settings
from models.requests import Sampling
from workers.backends import make_backend
from workers.backends.fake import WORDS, FakeBackend, FakeOptions, InjectedFaultError
from workers.engine import OutOfMemory, Row

from .llms import decode

DIES = """
from models.requests import Sampling
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import Row
backend = FakeBackend(FakeOptions.from_path("fake:kill=deadly"))
backend.add([Row(list(b"harmless"), 0, 9, Sampling())])
backend.step()
print("lives", flush=True)
backend.add([Row(list(b"a deadly one"), 0, 9, Sampling())])
backend.step()
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
    backend.step()
    with pytest.raises(InjectedFaultError, match="step 2"):
        backend.step()
    with pytest.raises(InjectedFaultError, match="reset"):
        backend.reset()
    backend.step()
    backend.add([row(b"a bad one")])
    with pytest.raises(InjectedFaultError):
        backend.step()


def test_it_takes_all_rows_or_none() -> None:
    """One row that it refuses keeps the others out as well."""
    backend = FakeBackend(FakeOptions(refuse="bad"))
    with pytest.raises(ValueError, match="bad"):
        backend.add([row(), row(b"bad")])
    backend.check_integrity({})


def test_it_has_memory_for_so_many_rows() -> None:
    """A step with more rows has none; fewer rows decode again after a reset."""
    backend = FakeBackend(FakeOptions.from_path("fake:memory_rows=2"))
    backend.add([row()] * 3)
    with pytest.raises(OutOfMemory, match="3 rows, and memory for 2"):
        backend.step()
    backend.reset()
    uids = backend.add([row()] * 2)
    assert set(decode(backend, uids)) == set(uids)


def test_it_kills_its_process_when_told_to() -> None:
    """A row that mentions the word ends the process by SIGKILL, as a crash would; others do not."""
    done = subprocess.run([sys.executable, "-c", DIES], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "lives\n", "")

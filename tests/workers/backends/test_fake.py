"""The twin: its options, its faults, and that it is what it says."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.settings import Engine as EngineSettings
from config.settings import Llm, Settings
from models.requests import Sampling
from workers.backends import make_backend
from workers.backends.fake import WORDS, FakeBackend, FakeOptions, InjectedFaultError
from workers.engine import Row

from .llms import decode


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

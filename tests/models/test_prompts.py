"""Counting tokens at the door, where no LLM is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import prompts
from models.prompts import (
    PIECE,
    TEMPLATE_TOKENS,
    TURN_TOKENS,
    Length,
    PromptCounter,
    PromptEncoder,
    PromptRefused,
    plain_text,
)
from models.requests import Message, TextPart
from tests.workers.backends.llms import TEMPLATE, save_tiny_llm

IMPORTS = """
import sys
import models.prompts
assert not {"transformers", "tokenizers", "jinja2"} & set(sys.modules)
counter = models.prompts.PromptCounter(sys.argv[1])
assert counter.measure((models.requests.Message(role="user", content=()),), 1, 1).tokens == 2
assert "transformers" in sys.modules
print(sorted(name for name in sys.modules if name.split(".")[0] in ("mlx", "mlx_lm")))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a chat template."""
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"), weights=False)


def turn(role: Any, text: str) -> Message:
    """One turn of a conversation."""
    return Message(role=role, content=(TextPart(text=text),))


def load(folder: Path) -> PromptEncoder:
    """An encoder as the worker makes it."""
    from transformers import AutoTokenizer

    return PromptEncoder(AutoTokenizer.from_pretrained(folder))


class Counting:
    """A tokenizer that notes how many characters it was given at a time."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.given: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **options: Any) -> list[int]:
        """Tokenise."""
        self.given.append(len(text))
        return list(self._tokenizer.encode(text, **options))

    def apply_chat_template(self, turns: Any, *, tokenize: bool, **options: Any) -> Any:
        """Render, and tokenise if that is asked for."""
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, **options)
        return self.encode(text, add_special_tokens=False) if tokenize else text


def test_it_counts_what_the_worker_will_compute(folder: Path) -> None:
    """The count is the length of the tokens that the worker's encoder makes, however long the text."""
    for times in (1, 1000):
        talk = (turn("system", "be brief"), turn("user", "the gate lets the water through: 日本" * times))
        count = len(load(folder).encode(talk))
        assert PromptCounter(str(folder)).measure(talk, 1, count) == Length(count)


def test_a_prompt_fits_up_to_the_last_token(folder: Path) -> None:
    """Prompt and max_tokens together may fill the context, and no more."""
    talk = (turn("user", "water through the gate " * 20),)
    length = PromptCounter(str(folder)).measure(talk, 50, 1)
    assert length is not None
    assert length.leaves(50, length.tokens + 50)
    assert not length.leaves(50, length.tokens + 49)


@pytest.mark.parametrize("text", ["the gate ", "x", " ", "日本", "<|end|>"])
@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_what_cannot_fit_is_not_tokenised(tmp_path: Path, text: str, template: str | None) -> None:
    """A prompt of more bytes than so many tokens can stand for is not tokenised, nor its length told."""
    encoder = load(save_tiny_llm(tmp_path, template=template, weights=False))
    encoder._tokenizer = tokenizer = Counting(encoder._tokenizer)
    length = encoder.length((turn("user", text * 1_000_000),), 1_000)
    assert (length, str(length)) == (Length(1_000, exact=False), "more than 1000")
    assert not length.leaves(0, 10**9)
    assert tokenizer.given == []


def test_pieces_do_where_tokens_may_stand_for_any_text(folder: Path) -> None:
    """A tokenizer that changes texts first has no longest token: its prompts are counted piece by piece."""
    from tokenizers import normalizers

    encoder = load(folder)
    encoder._tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    encoder._tokenizer = tokenizer = Counting(encoder._tokenizer)
    assert not encoder.length((turn("user", "the gate " * 1_000_000),), 1_000).exact
    assert set(tokenizer.given) == {PIECE}
    assert len(tokenizer.given) <= 8


@given(
    words=st.lists(
        st.sampled_from(["the", "gate", " ", "  ", "<|end|>", "日本", "é", "\n", "0"]), max_size=60
    )
)
def test_cuts_refuse_nothing_that_fits(folder: Path, words: list[str]) -> None:
    """However a text is cut into pieces, it is not taken for longer than it is."""
    encoder, talk = load(folder), (turn("user", "".join(words)),)
    count = len(encoder.encode(talk))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "PIECE", 7)
        assert encoder.length(talk, count) == Length(count)


def test_the_usual_job_is_not_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the bytes alone leave no doubt no tokenizer is needed."""
    counter, loads = PromptCounter(str(folder)), []
    monkeypatch.setattr(counter, "load", lambda: loads.append(1))
    talk = (turn("user", "x" * 100),)
    enough = 100 + TURN_TOKENS + TEMPLATE_TOKENS + 10
    assert (counter.measure(talk, 10, enough), loads) == (None, [])
    assert (counter.measure(talk, 10, enough - 1), loads) == (None, [1])


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_without_a_tokenizer_the_worker_decides(path: str) -> None:
    """Nothing is known, and nothing fails."""
    assert PromptCounter(path).measure((turn("user", "x" * 5000),), 10, 100) is None


@pytest.mark.parametrize("content", [None, "{}", "{"])
def test_a_folder_without_a_tokenizer_is_no_tokenizer(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that holds something else, or something broken, counts as unknown, and is tried once."""
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
        (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    counter = PromptCounter(str(tmp_path))
    assert counter.measure((turn("user", "hello"),), 1, 1) is None
    monkeypatch.setattr(prompts, "_load_encoder", lambda _: pytest.fail("tried again"))
    assert counter.measure((turn("user", "hello"),), 1, 1) is None


def test_a_refused_conversation_is_left_to_the_worker(folder: Path) -> None:
    """The door does not judge templates; the worker fails the job with the template's words."""
    talk = (turn("user", "hello"), turn("system", "too late"))
    assert PromptCounter(str(folder)).measure(talk, 1, 1) is None
    with pytest.raises(PromptRefused, match=r"\(user, system\): a system message must come first"):
        load(folder).encode(talk)


class Spoilt:
    """A tokenizer that raises what chat templates and tokenizers raise beside ValueErrors."""

    def __init__(self, error: Exception, *, has_template: bool) -> None:
        self.error = error
        self.has_chat_template = has_template

    def encode(self, *_: Any, **__: Any) -> Any:
        """Raise it."""
        raise self.error

    apply_chat_template = encode


@pytest.mark.parametrize("error", [Exception("bad byte"), AssertionError(), NotImplementedError("tools")])
@pytest.mark.parametrize("has_template", [True, False])
def test_whatever_a_tokenizer_raises_refuses_the_prompt(error: Exception, has_template: bool) -> None:
    """A bare Exception or an AssertionError concerns one conversation, and its words are kept."""
    encoder = PromptEncoder(Spoilt(error, has_template=has_template))
    reason = str(error) or type(error).__name__
    for text in ("hello", "x" * (PIECE + 1)):
        with pytest.raises(PromptRefused, match=rf"\(user\): {reason}"):
            encoder.encode((turn("user", text),))
        with pytest.raises(PromptRefused, match=rf"\(user\): {reason}"):
            encoder.length((turn("user", text),), 10)


def test_a_tokenizer_that_breaks_is_left_to_the_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door counts nothing that its tokenizer chokes on, and answers."""
    counter = PromptCounter(str(folder))
    spoilt = PromptEncoder(Spoilt(Exception("bad byte"), has_template=False))
    monkeypatch.setattr(counter, "load", lambda: spoilt)
    assert counter.measure((turn("user", "x" * 5000),), 1, 1) is None


def test_without_a_template_a_prompt_is_continued(tmp_path: Path) -> None:
    """An LLM without a chat template reads one user message as it is, and a conversation as paragraphs."""
    encoder = load(save_tiny_llm(tmp_path, template=None, weights=False))
    tokens = encoder._tokenizer.encode("through the penstock")
    assert encoder.encode((turn("user", "through the penstock"),)) == tokens
    talk = (turn("system", "s"), turn("user", "u"), turn("assistant", "a"), turn("user", "v"))
    assert plain_text(talk) == "System: s\n\nUser: u\n\nAssistant: a\n\nUser: v\n\nAssistant:"


@pytest.mark.slow
def test_it_never_loads_mlx(folder: Path) -> None:
    """Importing is light, counting loads the tokenizer's libraries, and neither loads MLX."""
    command = [sys.executable, "-c", IMPORTS, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"

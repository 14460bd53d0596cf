"""Counting tokens at the door, where no LLM is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.prompts import (
    TEMPLATE_TOKENS,
    TURN_TOKENS,
    PromptCounter,
    PromptEncoder,
    PromptRefused,
    plain_text,
)
from models.requests import Message, TextPart
from tests.workers.backends.llms import save_tiny_llm

IMPORTS = """
import sys
import models.prompts
assert not {"transformers", "tokenizers", "jinja2"} & set(sys.modules)
counter = models.prompts.PromptCounter(sys.argv[1])
assert counter.count((models.requests.Message(role="user", content=()),)) == 2
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


def test_it_counts_what_the_worker_will_compute(folder: Path) -> None:
    """The count is the length of the tokens that the worker's encoder makes."""
    talk = (turn("system", "be brief"), turn("user", "the gate lets the water through: 日本"))
    assert PromptCounter(str(folder)).count(talk) == len(load(folder).encode(talk))


def test_a_prompt_fits_up_to_the_last_token(folder: Path) -> None:
    """Prompt and max_tokens together may fill the context, and no more."""
    counter = PromptCounter(str(folder))
    talk = (turn("user", "water through the gate " * 20),)
    count = counter.count(talk)
    assert count is not None
    assert counter.fits(talk, 50, count + 50) is True
    assert counter.fits(talk, 50, count + 49) is False


def test_the_usual_job_is_not_counted() -> None:
    """Where the bytes alone leave no doubt no tokenizer is needed."""
    counter = PromptCounter("")
    talk = (turn("user", "x" * 100),)
    enough = 100 + TURN_TOKENS + TEMPLATE_TOKENS + 10
    assert counter.fits(talk, 10, enough) is True
    assert counter.fits(talk, 10, enough - 1) is None


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_without_a_tokenizer_the_worker_decides(path: str) -> None:
    """Nothing is known, and nothing fails."""
    counter = PromptCounter(path)
    assert counter.count((turn("user", "hello"),)) is None
    assert counter.fits((turn("user", "x" * 5000),), 10, 100) is None


def test_a_folder_without_a_tokenizer_is_no_tokenizer(tmp_path: Path) -> None:
    """A path that holds something else counts as unknown."""
    assert PromptCounter(str(tmp_path)).count((turn("user", "hello"),)) is None


def test_a_refused_conversation_is_left_to_the_worker(folder: Path) -> None:
    """The door does not judge templates; the worker fails the job with the template's words."""
    talk = (turn("user", "hello"), turn("system", "too late"))
    assert PromptCounter(str(folder)).count(talk) is None
    with pytest.raises(PromptRefused, match=r"\(user, system\): a system message must come first"):
        load(folder).encode(talk)


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

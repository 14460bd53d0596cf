"""What the door knows of LLMs, and when it reads their tokenizers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.llm_book import LlmBook
from config.settings import Llm, Settings
from models.database import Database
from tests.api.conftest import FakeWorker
from tests.service import wait_until

LONG = {"prompt": "x" * 5000}


class Loading:
    """A tokenizer that takes its time."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.may_end = threading.Event()

    def __call__(self, path: str) -> None:
        """Note the path and wait."""
        self.paths.append(path)
        assert self.may_end.wait(30)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loading]:
    """Stands where tokenizers are loaded."""
    loading = Loading()
    monkeypatch.setattr("models.prompts._load_encoder", loading)
    yield loading
    loading.may_end.set()


def test_an_id_means_the_llm_without_an_adapter(settings: Settings, database: Database) -> None:
    """Of several aliases of one LLM the first that has no adapter; one with an adapter goes by its alias."""
    llms = {
        "tuned": Llm(path="org/a", adapter="x"), "plain": Llm(path="org/a"), "other": Llm(path="org/a"),
        "only": Llm(path="org/b", adapter="x"), "pico": Llm(path="builtin:pico"),
    }  # fmt: skip
    book = LlmBook(settings.model_copy(update={"llms": llms}), database)
    names = ("tuned", "org/a", "org/b", "only", None)
    assert [book.resolve(name) for name in names] == ["tuned", "plain", None, "only", "pico"]


def test_known_tokenizers_are_loaded_at_the_start(
    app: FastAPI, worker: FakeWorker, loading: Loading, tmp_path: Path
) -> None:
    """The application starts and answers while the tokenizer is loaded, and no request has asked for it."""
    worker.publish(tokenizer=str(tmp_path))
    with TestClient(app, base_url="http://localhost") as client:
        wait_until(lambda: loading.paths == [str(tmp_path)])
        assert client.get("/health/live").status_code == 200
        loading.may_end.set()


def test_new_tokenizer_is_loaded_once_and_behind_the_scenes(
    client: TestClient, worker: FakeWorker, loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that needs no count is stored while the tokenizer of its LLM is loaded, once for all requests."""
    monkeypatch.setattr("api.llm_book.SECONDS", 0.0)
    worker.publish(tokenizer=str(tmp_path))
    for _ in range(2):
        assert client.post("/v1/jobs", json={"prompt": "short"}).status_code == 202
    wait_until(lambda: loading.paths == [str(tmp_path)])
    loading.may_end.set()
    assert client.post("/v1/jobs", json=LONG).status_code == 202
    assert loading.paths == [str(tmp_path)]

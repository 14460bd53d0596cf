"""What the door knows of the LLMs: the configured aliases, and what workers publish of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from difflib import get_close_matches

from config.settings import Settings
from models import workers
from models.database import Database, Unavailable
from models.prompts import Length, PromptCounter
from models.requests import Message
from models.workers import Llm, Standing

log = logging.getLogger(__name__)

SECONDS = 1.0
"""How old the rows may be."""


class LlmBook:
    """Aliases from the settings, rows from the database, read again when they are old."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._guard = threading.Lock()
        self._read_at = -SECONDS
        self._rows: dict[str, Llm] = {}
        self._standings: dict[str, Standing] = {}
        self._counters: dict[str, PromptCounter] = {}
        plain = [(alias, llm.path) for alias, llm in settings.llms.items() if not llm.adapter]
        self._aliases = {path: alias for alias, path in reversed(plain)}
        self._aliases |= {alias: alias for alias in settings.llms}

    def resolve(self, name: str | None) -> str | None:
        """The alias for an alias, an id or nothing; None for what is not configured."""
        return self._aliases.get(self._settings.default_llm if name is None else name)

    def near(self, name: str) -> Sequence[str]:
        """Configured aliases that look like ``name``, or all of them."""
        return get_close_matches(name, self._settings.llms) or sorted(self._settings.llms)

    def row(self, alias: str) -> Llm | None:
        """What a worker has published of an LLM, at most a second old; None before any did."""
        with self._guard:
            self._refresh()
            return self._rows.get(alias)

    def standing(self, alias: str) -> Standing:
        """Whether workers have loaded an LLM, or can load it; at most a second old."""
        with self._guard:
            self._refresh()
            return self._standings.get(alias, Standing())

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at >= SECONDS:
            self._rows = self._read()
            self._read_at = time.monotonic()

    def warm(self) -> None:
        """Begin to load the tokenizers that are known, so that no client waits for them."""
        try:
            with self._guard:
                self._read()
        except Unavailable as error:
            log.warning("what LLMs there are is not known yet: %s", error)

    def _read(self) -> dict[str, Llm]:
        """The rows by alias; each tokenizer that is new among them is loaded in the background."""
        with self._database.read() as session:
            found = {row.alias: row for row in workers.llms(session)}
            self._standings = workers.standings(workers.alive(session))
        for path in {row.tokenizer for row in found.values()} - self._counters.keys():
            self._counters[path] = counter = PromptCounter(path)
            threading.Thread(target=counter.load, name="tokenizer", daemon=True).start()
        return found

    def rate(self, alias: str) -> float | None:
        """Jobs a second that its worker ends, or None when nothing is known."""
        row = self.row(alias)
        return row.jobs_per_second if row is not None else None

    def measure(self, llm: Llm, messages: Sequence[Message], max_tokens: int) -> Length | None:
        """How long a prompt is; None if it surely fits with its completion, or nothing is known here."""
        return self._counters[llm.tokenizer].measure(messages, max_tokens, llm.context_length)

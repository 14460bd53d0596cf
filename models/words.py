"""Words as the full-text search knows them: the same on every database, for texts and for questions.

Neither database's own way of cutting texts is used, for they differ. A word is
a run of letters, digits and underscores without regard to case; of Chinese and
Japanese, which write without spaces, each character is one.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

MOST_WORDS = 1_000
"""Different words of a job that are indexed: those of its error, then of its last messages."""

MOST_CHARACTERS = 100_000
"""Characters of a job's texts in which words are looked for."""

LONGEST = 64
"""Characters of a word that are told apart; what comes behind is ignored."""

START = 2
"""Letters with which a word must begin to be found by its beginning: one alone would begin too many."""

CODE_LENGTH = 4

_ALONE = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_WORD = re.compile(f"[{_ALONE}]|[^\\W{_ALONE}]+")


def words(text: str) -> Iterator[str]:
    """The words of a text in order, folded and cut to :data:`LONGEST`."""
    return (found[0][:LONGEST] for found in _WORD.finditer(_folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text.casefold())


def words_of(request: str, error: str | None) -> list[str]:
    """The different words of a job by which it is found; ``request`` is JSON of a CompletionRequest.

    When there are too many, those of what was said last are kept: a
    conversation is sent whole with every job, its beginning again and again.
    """
    found: dict[str, None] = {}
    left = MOST_CHARACTERS
    for text in _texts(request, error):
        for word in words(text[:left]):
            found[word] = None
            if len(found) == MOST_WORDS:
                return list(found)
        left -= len(text)
        if left <= 0:
            break
    return list(found)


def _texts(request: str, error: str | None) -> Iterator[str]:
    yield error or ""
    for message in reversed(orjson.loads(request)["messages"]):
        for part in message["content"]:
            yield part.get("text", "")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is looked for: whole words, and the beginning of one that may go on."""

    whole: tuple[str, ...]
    start: str | None

    @classmethod
    def of(cls, text: str) -> Terms:
        """Every word must be there; the last may go on where nothing follows it, if it is no single letter.

        Raises:
            ValueError: there is no word in it.
        """
        found = list(words(text))
        if not found:
            raise ValueError("holds no letter and no digit to look for")
        goes_on = _WORD.fullmatch(_folded(text)[-1]) is not None and len(found[-1]) >= START
        start = found.pop() if goes_on else None
        return cls(tuple(dict.fromkeys(found)), start)

    @property
    def ended(self) -> Terms:
        """The same, but the last is a whole word too: what has these has the others."""
        return self if self.start is None else Terms((*self.whole, self.start), None)

    def match(self, there: Iterable[str]) -> bool:
        """Whether words have all of it."""
        known = set(there)
        start = self.start
        return known.issuperset(self.whole) and (
            start is None or any(word.startswith(start) for word in known)
        )


def code(tenant_id: str) -> str:
    """What is put in front of a tenant's words, so that another's do not stand in the way.

    Two tenants may have the same: it makes searches quick and is not what keeps them apart.
    """
    digest = hashlib.blake2b(tenant_id.encode(), digest_size=5).digest()
    return base64.b32encode(digest).decode()[:CODE_LENGTH].lower()

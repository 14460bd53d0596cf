"""Stop strings: the text ends before them, and no part of one is ever shown."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Watches one row's text for its stop strings, across any borders of tokens.

    The result depends on the text alone, not on how it was cut into pieces:
    the stop string that is complete first ends the text, and of several that
    are complete with the same character the longest.
    """

    __slots__ = ("_held", "_longest", "_prefixes", "_stops", "matched")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._prefixes = {stop[:n] for stop in self._stops for n in range(1, len(stop))}
        self._held = ""
        self.matched = False

    def push(self, text: str) -> str:
        """Take the next text; return what may be shown now. After a match nothing ever is."""
        if not self._stops:
            return text
        if self.matched or not text:
            return ""
        text = self._held + text
        start = self._first_stop(text)
        if start is not None:
            self.matched, self._held = True, ""
            return text[:start]
        keep = len(text) - self._suspicious(text)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return the text held back in case a stop string followed: none will."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str) -> int | None:
        """Where the stop string that is complete first begins, or None."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _suspicious(self, text: str) -> int:
        """Length of the longest end of ``text`` that could be the beginning of a stop string."""
        for n in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-n:] in self._prefixes:
                return n
        return 0

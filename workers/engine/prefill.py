"""How much of the prompts is computed in one step, so that nobody's tokens wait long for it."""

from __future__ import annotations

LEAST = 16
"""Tokens of any piece: below that a step takes its time whatever is in it."""

WEIGHT = 0.3
"""Of the newest measurement in a running mean."""


class PrefillPace:
    """Sizes the pieces: beside rows that decode one takes at most ``stall`` times as long as their step.

    While nobody decodes a piece has ``most`` tokens. What a step and a token
    take is measured all the while, for both grow with the batch and with
    what it holds.
    """

    def __init__(self, most: int, stall: float) -> None:
        self._most = most
        self._stall = stall
        self._step_seconds: float | None = None
        self.token_seconds: float | None = None

    def piece(self, decoding: int, reading: int) -> int:
        """Tokens of each of ``reading`` prompts that are to be computed beside ``decoding`` rows."""
        if not decoding or not reading:
            return self._most
        if self._step_seconds is None or not self.token_seconds:
            return min(self._most, 4 * LEAST)  # nothing is known yet: learn from a small one
        affordable = self._stall * self._step_seconds / self.token_seconds / reading
        return max(LEAST, min(self._most, int(affordable) // LEAST * LEAST))

    def learn(self, seconds: float, decoded: int, prefilled: int) -> None:
        """Note what a step took that decoded so many rows and computed so many tokens of prompts."""
        if decoded and not prefilled:
            self._step_seconds = _mean(self._step_seconds, seconds)
        elif prefilled >= LEAST:
            left = seconds - (self._step_seconds or 0.0 if decoded else 0.0)
            self.token_seconds = _mean(self.token_seconds, max(left, seconds / 10) / prefilled)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)

"""How many rows may decode together: fewer for a while when the device ran out of memory."""

from __future__ import annotations

GOOD_STEPS = 512
"""Steps that brought tokens before a lowered limit is doubled.

Steps that only read prompts do not count: what they computed would be lost
again if the larger batch did not fit, tokens never are.
"""


class RowLimit:
    """``now`` is in force, ``most`` is what was set."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = most
        self._good_steps = 0

    def shrink(self, rows: int) -> None:
        """Allow half of ``rows``, for which there was no memory, but at least one."""
        self.now = max(1, rows // 2)
        self._good_steps = 0

    def survived(self) -> None:
        """Note a step that brought tokens."""
        if self.now == self.most:
            return
        self._good_steps += 1
        if self._good_steps >= GOOD_STEPS:
            self.now = min(self.most, 2 * self.now)
            self._good_steps = 0

    def restore(self) -> None:
        """Allow all again: there is no batch left that was too large."""
        self.now = self.most
        self._good_steps = 0

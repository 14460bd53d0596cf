"""``python -m ops.cli``: how the supervisor starts its children."""

from __future__ import annotations

from ops.cli import main

main()

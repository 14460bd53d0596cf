"""A process that handles hints slowly and notes each one, to be killed by a test."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from config.settings import Settings
from tests.workers.broker.place import Place


def main(settings: str, database_url: str, notes: str) -> None:
    """Handle hints for ever."""
    place = Place(Settings.model_validate_json(settings), database_url)

    def handler(ids: list[str]) -> None:
        time.sleep(0.02)
        with Path(notes).open("a") as file:
            file.writelines(f"{name}\n" for name in ids)

    place.worker(place.broker(), handler)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write everything that is generated from the code: ``python -m ops.docs_build``."""

from __future__ import annotations

from config.sources import PROJECT
from ops import settings_text


def main() -> None:
    """Write the generated texts and say where they are."""
    for file in settings_text.write(PROJECT):
        print(file.relative_to(PROJECT))


if __name__ == "__main__":
    main()

"""Refuse to run when another installed package has taken one of our generic import names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("api", "config", "migrations", "models", "workers")


def foreign_rooms(root: Path = ROOT) -> dict[str, str]:
    """Import names that lead elsewhere than to ``root``, with the place they lead to."""
    found = {name: _place(name) for name in ROOMS}
    return {name: str(place) for name, place in found.items() if place != root / name}


def _place(name: str) -> Path | None:
    """The folder that ``import name`` would load, found without importing it."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        origin = spec.origin if spec is not None else None
        return Path(origin) if origin else None
    return Path(places[0]).resolve()


def complaint(foreign: dict[str, str], root: Path = ROOT) -> str:
    """What to tell the person whose Python finds other packages under our names."""
    lines = [f"  {name} comes from {place}" for name, place in foreign.items()]
    return "\n".join(
        [
            f"Penstock's own folders in {root} are hidden by other packages of the same names:",
            *lines,
            "Use an environment of its own: `make run` builds one in .venv.",
            "If the folder you are in holds such names, start penstock from another one.",
        ]
    )

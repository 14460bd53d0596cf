"""Which LLMs the engine's benchmarks measure on this device, made when they are first used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ops.bench.figure import Effort
from ops.bench.llms import SHAPES, endless_pico, parameters, random_llama
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.doctor.device import device_kind

PICO = "pico"
NAMES = (PICO, *SHAPES)
"""What may be chosen."""

ON_CPU = {"light": PICO, "medium": "16m", "heavy": "101m"}
ELSEWHERE = "1b"

CONTEXT = 65_536
"""Tokens for which each of them says it was made: positions cost the same, whatever they were trained on."""


@dataclass(frozen=True)
class Subject:
    """An LLM, in words and as a folder; it generates until ``max_tokens``."""

    name: str
    folder: Path


class Bench:
    """How much is measured, where, and with what.

    ``light`` is for work that would take hours on a CPU, ``medium`` for long prompts, ``heavy``
    for all else. Where one LLM was chosen, or on an accelerator, it is all three.
    """

    def __init__(self, effort: Effort, folder: Path) -> None:
        if effort.llm and effort.llm not in NAMES:
            raise Complaint(
                f"There is no LLM {effort.llm} to measure: choose among {', '.join(NAMES)}.",
                CONFIGURATION_ERROR,
            )
        self.effort = effort
        self.folder = folder / "engine"
        self.folder.mkdir()
        self._made: dict[str, Subject] = {}

    @cached_property
    def device(self) -> str:
        """Metal, CUDA or CPU."""
        return device_kind()

    @property
    def light(self) -> Subject:
        """The least that still shows what is measured."""
        return self._subject("light")

    @property
    def medium(self) -> Subject:
        """For prompts so long that a heavy one would compute them for minutes."""
        return self._subject("medium")

    @property
    def heavy(self) -> Subject:
        """One in which computing dominates."""
        return self._subject("heavy")

    def rounds(self, most_on_cpu: int) -> int:
        """Rounds of what takes minutes on a CPU, and is measured less often there."""
        return min(self.effort.rounds, most_on_cpu) if self.device == "CPU" else self.effort.rounds

    def place(self, name: str) -> Path:
        """A folder of this name, not yet made."""
        return self.folder / name

    def _subject(self, weight: str) -> Subject:
        name = self.effort.llm or (ON_CPU[weight] if self.device == "CPU" else ELSEWHERE)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Subject:
        dtype = "float32" if self.device == "CPU" else "float16"
        place = self.place(f"llm-{name}")
        if name == PICO:
            return Subject(f"pico, {dtype}", endless_pico(place, dtype, CONTEXT))
        size = parameters(SHAPES[name]) / 1e6
        told = f"random Llama of {size:.0f} M, {dtype}"
        return Subject(told, random_llama(place, SHAPES[name], dtype, CONTEXT))

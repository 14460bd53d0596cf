"""How the deterministic twin behaves, and the faults that it is told to have."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, field_validator


class InjectedFaultError(RuntimeError):
    """The fault that the twin was told to have."""


class FakeOptions(BaseModel):
    """How the twin behaves; in a configuration, as ``path = "fake:step_ms=5&endless=1"``.

    A prompt that contains ``poison`` breaks every step it is in, one that
    contains ``spoil`` is given up alone in its first decoding step, one that
    contains ``refuse`` is not taken at all, and one that contains ``kill`` ends
    the whole process in its first step, as a crash would. ``memory_rows`` is how
    many rows there is memory for, ``memory_blocks`` how many blocks. With ``fail_keep``
    nothing can be kept. ``no_system`` makes it refuse system messages, as some chat templates do.
    ``uncut`` gives it a layer that cannot be cut beside the one that can.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step_ms: float = Field(0, ge=0)
    context_length: int = Field(4096, ge=1)
    bytes_per_token: int = Field(64, ge=4, multiple_of=4)
    uncut: bool = False
    endless: bool = False
    no_system: bool = False
    reply_tokens: int | None = Field(None, ge=0)
    fail_steps: frozenset[int] = frozenset()
    fail_reset: bool = False
    fail_keep: bool = False
    poison: str = ""
    spoil: str = ""
    refuse: str = ""
    kill: str = ""
    memory_rows: int | None = Field(None, ge=0)
    memory_blocks: int | None = Field(None, ge=0)

    @field_validator("fail_steps", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @classmethod
    def from_path(cls, path: str) -> FakeOptions:
        """Read the options out of an LLM's path; any path but ``fake:...`` has none."""
        scheme, _, query = path.partition(":")
        return cls.model_validate(dict(parse_qsl(query, keep_blank_values=True)) if scheme == "fake" else {})

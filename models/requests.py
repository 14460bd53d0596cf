"""What is asked of an LLM, independent of the dialect in which it was asked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Neutral(BaseModel):
    """A frozen piece of a request that refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(Neutral):
    """A stretch of text; other kinds of part will stand beside it."""

    type: Literal["text"] = "text"
    text: str


class Message(Neutral):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: tuple[TextPart, ...]

    @property
    def text(self) -> str:
        """The text of all parts in order."""
        return "".join(part.text for part in self.content)


class Sampling(Neutral):
    """How tokens are chosen; temperature 0 takes the likeliest."""

    max_tokens: int = Field(256, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: tuple[str, ...] = ()


class CompletionRequest(Neutral):
    """The stored request of a job of kind ``completion``."""

    version: Literal[1] = 1
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    response_format: Literal["text"] = "text"

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all message texts: no byte-level tokenizer makes more tokens."""
        return sum(len(message.text.encode()) for message in self.messages)

    @property
    def estimated_tokens(self) -> int:
        """A guess for the order of the queue: four bytes a token, and all of max_tokens."""
        return self.text_bytes // 4 + self.sampling.max_tokens

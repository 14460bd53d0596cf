"""A long conversation with tools: how much of each prompt need not be computed, and how much was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.prompts import PromptCounter
from models.requests import Message, TextPart
from ops.bench.agents import Chat, Ours, Server, Theirs, cached_of
from ops.bench.figure import Bound, Figure
from ops.bench.llms import PICO
from ops.bench.peer import Peer
from ops.bench.subjects import Bench
from ops.bench.texts import Texts
from ops.service import Service

TARGET = 0.95
SYSTEM, RESULT = 800, 100
"""Tokens of the system message, and of what a tool gives back in each turn."""


class Reusable:
    """What of each prompt has been computed before: the longest beginning it shares with the turn before."""

    def __init__(self) -> None:
        encoder = PromptCounter(str(PICO)).load()
        assert encoder is not None  # noqa: S101 - pico is part of the program
        self._encoder, self._texts = encoder, Texts()
        self._computed: list[int] = []

    def ask(self, chat: Chat) -> int:
        """Tokens of this prompt that can be reused, if everything that was computed is kept."""
        prompt = self._encoder.encode(messages(chat))
        found = common(prompt[:-1], self._computed)
        self._computed = prompt
        return found

    def answered(self, text: str) -> None:
        """What was generated behind the prompt was computed as well."""
        self._computed += self._texts.tokens(text)


def measure(bench: Bench) -> Iterator[Figure]:
    """Prompt tokens reused ÷ reusable in one conversation, by ours and by ``mlx_lm.server``."""
    turns = bench.effort.conversation
    with Service(bench.place("conversation")) as service:
        ours = play(Ours(service), turns)
    with Peer(PICO, bench.place("mlx-lm-conversation.log")) as peer:
        theirs = play(Theirs(peer), turns)
    sides: tuple[tuple[str, tuple[list[int], list[int]], Bound], ...] = (
        ("", ours, "at least"),
        (", mlx_lm.server", theirs, "for comparison"),
    )
    for name, (reused, reusable), bound in sides:
        yield Figure(
            f"prompt tokens reused ÷ reusable, {turns} turns with tools{name}",
            sum(reused) / sum(reusable), "", bound, TARGET,
            {"llm": "pico", "device": bench.device, "reused": reused, "reusable": reusable},
        )  # fmt: skip


def play(server: Server, turns: int) -> tuple[list[int], list[int]]:
    """Tokens reused and reusable in each turn: a tool's result comes, the LLM answers."""
    texts, reusable_of = Texts(), Reusable()
    chat: Chat = [{"role": "system", "content": texts.take(SYSTEM)}]
    reused, reusable = [], []
    with server.door() as door:
        for _ in range(turns):
            chat.append({"role": "user", "content": f"<result>{texts.take(RESULT)}</result>"})
            reusable.append(reusable_of.ask(chat))
            answer = server.turn(door, "conversation", chat)
            reused.append(cached_of(answer["usage"]))
            reusable_of.answered(answer["text"])
            chat.append({"role": "assistant", "content": answer["text"]})
    return reused, reusable


def messages(chat: Chat) -> list[Message]:
    """A conversation as the templates take it."""
    return [
        Message.model_validate({"role": one["role"], "content": (TextPart(text=one["content"]),)})
        for one in chat
    ]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How long a beginning two rows of tokens share."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, its) in enumerate(pairs) if mine != its), min(len(one), len(other)))

"""Train `pico`: `python -m ops.pico.train --steps N --checkpoint FILE --export FOLDER`.

Run again with the same checkpoint file, it goes on where it stopped. Needs PyTorch, which nothing
else in the project needs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from ops.pico import recipe
from ops.pico.conversations import LONG, SHORT, SINGLE
from ops.pico.export import export
from ops.pico.llm import Llama, Shape


class Trainer:
    """The network, its optimizers and the step it is at."""

    def __init__(self, options: argparse.Namespace, cut: Tokenizer) -> None:
        torch.manual_seed(options.seed)
        self.options, self.cut, self.step = options, cut, 0
        self.llm = Llama(Shape(vocab_size=cut.get_vocab_size())).to(options.device)
        self.optimizers = optimizers(self.llm)
        self.loss = torch.compile(self.llm.loss, dynamic=False) if options.compile else self.llm.loss
        if options.checkpoint.exists():
            self.load()

    def load(self) -> None:
        """Go back to the state in the checkpoint file."""
        state = torch.load(self.options.checkpoint, map_location=self.options.device, weights_only=True)
        self.llm.load_state_dict(state["llm"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]

    def save(self) -> None:
        """Write the checkpoint and the LLM directory."""
        saved = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"llm": self.llm.state_dict(), "optimizers": saved, "step": self.step}
        temporary = self.options.checkpoint.with_suffix(".new")
        torch.save(state, temporary)
        temporary.rename(self.options.checkpoint)
        export(self.llm, self.cut, self.options.export)

    def advance(self) -> float:
        """One step; the loss before it, in nats for each weighted token."""
        progress = self.step / self.options.steps
        batch = recipe.batch(self.cut, self.options.seed, self.step, progress)
        ids, weights = batch.ids.to(self.options.device), batch.weights.to(self.options.device)
        with torch.autocast(self.options.device, torch.bfloat16):
            loss = self.loss(ids, weights)
        loss.backward()
        nn.utils.clip_grad_norm_(self.llm.parameters(), 1.0)
        for optimizer, top in zip(self.optimizers, TOP_RATES, strict=True):
            optimizer.param_groups[0]["lr"] = top * recipe.rate(progress)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return float(loss.item())


TOP_RATES = (recipe.MATRIX_RATE, recipe.VECTOR_RATE)


def optimizers(llm: Llama) -> tuple[Optimizer, Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for all else."""
    matrices = [weight for name, weight in llm.named_parameters() if "_proj" in name]
    others = [weight for name, weight in llm.named_parameters() if "_proj" not in name]
    decay, top = recipe.WEIGHT_DECAY, TOP_RATES
    muon = Muon(matrices, lr=top[0], weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return muon, AdamW(others, lr=top[1], betas=(0.9, 0.95), weight_decay=0.0)


@torch.no_grad()
def examine(trainer: Trainer) -> str:
    """Share of answer tokens guessed right on unseen made-up conversations, for each lesson."""
    rng, shares = Random("examination"), []
    for lesson in (SINGLE, SHORT, LONG):
        batch = recipe.lesson_batch(trainer.cut, lesson, rng)
        ids, written = batch.ids.to(trainer.options.device), batch.weights[:, 1:] == 1.0
        with torch.autocast(trainer.options.device, torch.bfloat16):
            hidden = trainer.llm(ids[:, :-1])[written]
            guesses = (hidden @ trainer.llm.model.embed_tokens.weight.T).argmax(-1)
        shares.append((guesses.cpu() == batch.ids[:, 1:][written]).float().mean().item())
    return " ".join(f"{share:.4f}" for share in shares)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler on a CPU")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="between checkpoints")
    return parser.parse_args()


def main() -> None:
    """Train until the last step; save now and then and at the end."""
    options = arguments()
    torch.set_num_threads(options.threads)
    trainer = Trainer(options, recipe.tokenizer(options.seed))
    began = saved = time.monotonic()
    while trainer.step < options.steps:
        loss = trainer.advance()
        if trainer.step % 20 == 0:
            print(f"step {trainer.step} loss {loss:.4f} {time.monotonic() - began:.0f} s", flush=True)
        if trainer.step % 100 == 0:
            print(f"step {trainer.step} right tokens {examine(trainer)}", flush=True)
        if time.monotonic() - saved > options.minutes * 60:
            trainer.save()
            saved = time.monotonic()
    trainer.save()


if __name__ == "__main__":
    main()

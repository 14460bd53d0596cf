"""The LLMs that the settings name: whether their files are there, and their tokenizers can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from ops.doctor.finding import Finding, fail, ok, warn
from ops.llm_place import missing_files, missing_of_adapter, place


def weights(settings: Settings) -> Iterator[Finding]:
    """Config and weights of each LLM; what comes from a hub may still have to be fetched."""
    if settings.engine.backend == "fake":
        yield warn("weights", "engine.backend is fake: no LLM is used", "set it to mlx for real answers")
        return
    for alias, llm in settings.llms.items():
        subject = f"weights of {alias}"
        folder = place(llm.path)
        if folder is None:
            yield _hub(subject, llm.path)
        elif missing := missing_files(folder):
            yield fail(subject, f"{folder} has no {' and no '.join(missing)}", f"put llms.{alias}.path right")
        elif missing := missing_of_adapter(llm.adapter):
            lacks = f"{llm.adapter} has no {' and no '.join(missing)}"
            yield fail(subject, lacks, f"put llms.{alias}.adapter right")
        else:
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            yield ok(subject, f"{size / 2**20:.1f} MiB in {folder}")


def tokenizers(settings: Settings) -> Iterator[Finding]:
    """Whether text survives the way through each tokenizer and back."""
    if settings.engine.backend == "fake":
        return
    for alias, llm in settings.llms.items():
        folder = place(llm.path)
        if folder is not None and (folder / "tokenizer.json").exists():
            yield _tokenizer(f"tokenizer of {alias}", folder / "tokenizer.json")


def _hub(subject: str, hub_id: str) -> Finding:
    return warn(subject, f"{hub_id} is not on this machine yet", "it is fetched at the first start")


def _tokenizer(subject: str, file: Path) -> Finding:
    from tokenizers import Tokenizer

    sample = 'GET /health 200 "Grüße, 世界"'
    try:
        read = Tokenizer.from_file(str(file))
        tokens = read.encode(sample, add_special_tokens=False).ids
    except Exception as error:  # noqa: BLE001 - the library raises plain exceptions
        return fail(subject, f"{file} cannot be read: {error}", "fetch the LLM's files again")
    same = read.decode(tokens, skip_special_tokens=False).strip() == sample
    says = f"{read.get_vocab_size()} tokens"
    if same:
        return ok(subject, says)
    return warn(subject, f"{says}; not every text comes back as it was", "expect changed spaces or letters")

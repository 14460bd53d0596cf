"""Where an LLM's files are, and whether a start with it can succeed."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from ops.complaint import CONFIGURATION_ERROR, Complaint

BUILTIN = "builtin:"
BACKENDS = Path(__file__).resolve().parents[1] / "workers" / "backends"
HUB_SECONDS = 10.0
"""How long the hub may take to say whether it has an LLM."""


def check(settings: Settings, alias: str) -> None:
    """Do nothing if an LLM that is to be served is here, or may be fetched.

    Raises:
        Complaint: it is neither, so that another start cannot help.
    """
    if settings.engine.backend == "fake":
        return
    path, adapter = settings.llms[alias].path, settings.llms[alias].adapter
    folder, setting = place(path), "path"
    if folder is not None and (missing := missing_files(folder)):
        wrong = f"{folder} has no {' and no '.join(missing)}" if folder.is_dir() else f"there is no {folder}"
    elif folder is None and not _may_be_fetched(path):
        wrong = f"{path} is no folder here, and the hub knows no such id, or does not show it to you"
    elif lacking := missing_of_adapter(adapter):
        wrong, setting = f"its adapter {adapter} has no {' and no '.join(lacking)}", "adapter"
    else:
        return
    cure = f"put --llm, or the setting llms.{alias}.{setting}, right"
    raise Complaint(f"The LLM cannot be loaded: {wrong}. To mend it, {cure}.", CONFIGURATION_ERROR)


def place(path: str) -> Path | None:
    """The folder of an LLM's files; None for one that comes from a hub and is not here yet."""
    if path.startswith(BUILTIN):
        return BACKENDS / path.removeprefix(BUILTIN)
    local = Path(path).expanduser()
    if local.is_dir() or local.is_absolute() or path.startswith((".", "~")):
        return local
    return _cached(path)


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(hub_id, "config.json")
    except ValueError:  # what looks like no hub id at all
        return Path(hub_id)
    return Path(found).parent if isinstance(found, str) else None


def _may_be_fetched(hub_id: str) -> bool:
    """False only where the hub says that there is no such thing; one that does not answer says nothing."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(hub_id, timeout=HUB_SECONDS)
    except Exception as error:  # noqa: BLE001 - without network there are many kinds
        return not isinstance(error, RepositoryNotFoundError)
    return True


def missing_files(folder: Path) -> list[str]:
    """What an LLM needs and this folder lacks."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing


def missing_of_adapter(folder: str) -> list[str]:
    """What a LoRA adapter needs and this folder lacks; nothing is missing where there is no adapter."""
    files = ("adapter_config.json", "adapters.safetensors") if folder else ()
    return [name for name in files if not (Path(folder).expanduser() / name).is_file()]

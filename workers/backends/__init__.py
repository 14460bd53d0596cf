"""What decodes: MLX with any mlx-lm LLM, and a deterministic twin for tests.

Light to import: MLX is loaded by :func:`make_backend`, in the thread that calls it.
"""

from __future__ import annotations

from config.settings import Settings
from workers.engine.backend import Backend


def make_backend(settings: Settings, alias: str) -> Backend:
    """Load the LLM configured as ``alias``; call it in the engine's thread.

    Raises KeyError for an unknown alias, and what loading raises.
    """
    path, adapter = settings.llms[alias].path, settings.llms[alias].adapter
    if settings.engine.backend == "fake":
        from workers.backends.fake import FakeBackend, FakeOptions

        return FakeBackend(FakeOptions.from_path(path), settings.engine, name=alias)
    from workers.backends.mlx import MlxBackend

    return MlxBackend(path, settings.engine, name=alias, adapter=adapter)

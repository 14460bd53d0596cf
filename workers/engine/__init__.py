"""The engine: decodes many jobs together and tells what becomes of each.

Plain Python that runs anywhere; what computes stands behind
:class:`~workers.engine.backend.Backend`.

**The way of a job.** A listener makes an :class:`EngineThread` from a factory
of backends and a callback, starts it and waits for :meth:`EngineThread.ready`.
It asks :meth:`EngineThread.capacity`, encodes prompts with
:meth:`EngineThread.encode` (in its own thread, beside the engine; refused
ones raise :class:`PromptRefused`) and hands over :class:`Admission` records
with :meth:`EngineThread.submit`: those of one call are admitted together, later
ones join at any step. Then the callback receives, in one list a step:

- :class:`Started` once, when the row is handed to the decoder;
- :class:`Delta` for each piece of text that may be shown;
- and exactly one end: :class:`Finished` ("stop", "length", "cancelled",
  "timeout" or "expired", with text, tokens and usage), :class:`Failed` (with
  ``retryable``), or :class:`Withdrawn` after :meth:`EngineThread.withdraw_all` or
  :meth:`EngineThread.stop`, or when it was parked for a job of a better class;
  its tokens make the ``prior`` of the next admission, which continues without
  counting or showing them twice.

More jobs may be handed over than there is capacity for, as many of a better
class as :meth:`EngineThread.parkable` names others that they can replace.
:meth:`EngineThread.cancel`, an admission's ``deadline`` and its ``expires`` take
effect at the next step; :meth:`EngineThread.drain` waits for the jobs held; an engine that
cannot go on shows :attr:`EngineThread.dead`, and the process should exit.

**The parts**, in the order in which a job meets them:

- ``thread``: the one thread that owns the backend; commands in, outputs out.
- ``engine``: :meth:`Engine.step`, the loop on one screen.
- ``admission``: one attempt at one job, as handed in.
- ``roster``: who is held, who waits, who sits in the batch.
- ``gate``: who joins now, class by class, counted in bytes of rows x longest row;
  ``rectangle``: the batch as it would be; ``parking``: who makes room for a better
  class; ``row_limit``: fewer rows for a while after the device ran out of memory.
- ``sequence``: one row's tokens, text and end; ``stops``: its stop strings.
- ``backend``: the protocol behind which an LLM decodes.
- ``recovery``: after a broken step, who comes back and who is to blame.
- ``outputs``: what is told; ``outbox``: what a step has to tell; ``stats``: figures.
"""

from workers.engine.admission import Admission
from workers.engine.backend import Backend, Detokenizer, LlmInfo, OutOfMemory, PromptRefused, Row, StepResult
from workers.engine.engine import Engine
from workers.engine.limits import Limits
from workers.engine.outputs import Delta, Failed, Finished, Output, Started, Withdrawn
from workers.engine.recovery import EngineDead
from workers.engine.stats import EngineStats
from workers.engine.thread import EngineThread

__all__ = [
    "Admission",
    "Backend",
    "Delta",
    "Detokenizer",
    "Engine",
    "EngineDead",
    "EngineStats",
    "EngineThread",
    "Failed",
    "Finished",
    "Limits",
    "LlmInfo",
    "OutOfMemory",
    "Output",
    "PromptRefused",
    "Row",
    "Started",
    "StepResult",
    "Withdrawn",
]

"""What went wrong, as RFC 9457 has it."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from api.wire.fields import CheckView, View


class Fault(View):
    """One thing that is wrong with a request, and its cure."""

    field: Annotated[str, Field(description="Where: `prompt`, `jobs[3].stop[0]`, `Idempotency-Key`.")]
    message: Annotated[str, Field(description="What is wrong, and what would do.")]


class ProblemView(View):
    """An error. `type` is stable; `detail` and `errors` are for people."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: Annotated[str, Field(description="A URN that names the kind of problem.")]
    title: str
    status: int
    detail: str
    request_id: Annotated[str, Field(description="Also in the header X-Request-ID.")]
    errors: list[Fault] | None = None
    checks: Annotated[
        dict[str, CheckView] | None, Field(description="Parts of the service, when not ready.")
    ] = None

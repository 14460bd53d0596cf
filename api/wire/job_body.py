"""What a client sends to have a job done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from api.wire.fields import WHOLE, AgentName, Body, Listed, Metadata, Short, Text, Time, Value, shown

LATER = frozenset({"webhook", "max_cost", "tools", "tool_choice", "images", "workflow", "after"})
"""Fields that are known and have not landed yet."""

EXAMPLE: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Answer with the fields of the line as JSON: host, status."},
        {"role": "user", "content": '10.0.0.7 - - "GET /health" 200'},
    ],
    "agent": "log-reader",
    "max_tokens": 64,
    "priority": "standard",
    "tags": ["demo"],
    "metadata": {"line": "17"},
}


class PartBody(Body):
    """A stretch of text."""

    type: Literal["text"]
    text: Text


def _kind_of_content(value: object) -> str:
    return "parts" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Listed[PartBody], Field(min_length=1), Tag("parts")],
    Discriminator(_kind_of_content),
]


class MessageBody(Body):
    """One turn of a conversation."""

    role: Annotated[Literal["system", "user", "assistant"], Field(description="Who speaks.")]
    content: Annotated[Content, Field(description="Text, or a list of text parts.")]


class TextFormat(Body):
    """Plain text, the only format so far."""

    type: Literal["text"]


def _kind_of_format(value: object) -> str:
    return "object" if isinstance(value, dict) else "name"


Format = Annotated[
    Annotated[Literal["text"], Tag("name")] | Annotated[TextFormat, Tag("object")],
    Discriminator(_kind_of_format),
]


class JobBody(Body):
    """A job: a conversation or a prompt, how to sample, when and how often to try."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["messages"]}, {"required": ["prompt"]}],
            "examples": [EXAMPLE, {"prompt": "Say hello."}],
        }
    )

    messages: Annotated[
        Listed[MessageBody], Field(min_length=1, description="The whole conversation; or give `prompt`.")
    ] = Field(default_factory=list)
    prompt: Annotated[Text, Field(description="Short for one user message.")] = Field(default_factory=str)
    agent: Annotated[
        AgentName | None,
        Field(description="Whose job it is: an agent's jobs run one at a time, in order."),
    ] = None
    llm: Annotated[Short | None, Field(description="Alias or id of an LLM; see /v1/llms.")] = None
    max_tokens: Annotated[
        Annotated[int, Field(ge=1, le=10_000_000), WHOLE] | None,
        Field(description="Tokens to generate at most."),
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2, description="0 takes the likeliest token.")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, description="Sample from the likeliest of this mass.")] = 1.0
    top_k: Annotated[
        int, Field(ge=0, le=1_000_000, description="Sample from so many; 0 is no limit."), WHOLE
    ] = 0
    min_p: Annotated[float, Field(ge=0, le=1, description="Drop what is less likely than this share.")] = 0.0
    seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**63), WHOLE] | None, Field(description="Makes sampling repeatable.")
    ] = None
    stop: Annotated[
        Listed[Annotated[Value, Field(min_length=1)]],
        Field(description="Texts that end the answer; never shown."),
    ] = Field(default_factory=list)
    response_format: Annotated[Format, Field(description="`text` so far.")] = "text"
    priority: Annotated[
        Literal["interactive", "standard", "background"], Field(description="Class in the queue.")
    ] = "standard"
    run_at: Annotated[Time | None, Field(description="Not before this time.")] = None
    expires_at: Annotated[
        Time | None, Field(description="Ends as `expired` at this time, waiting or running.")
    ] = None
    timeout_seconds: Annotated[float | None, Field(gt=0, description="How long an attempt may take.")] = None
    max_attempts: Annotated[
        Annotated[int, Field(ge=1, le=20), WHOLE] | None, Field(description="How many failures end the job.")
    ] = None
    metadata: Annotated[Metadata, Field(description="Strings to carry along.")] = Field(default_factory=dict)
    tags: Annotated[Listed[Short], Field(description="Words to filter by.")] = Field(default_factory=list)


class JobChange(Body):
    """What may be changed of a job that waits."""

    model_config = shown({"priority": "interactive"})

    priority: Annotated[
        Literal["interactive", "standard", "background"], Field(description="Its class in the queue.")
    ]


class BulkBody(Body):
    """Many jobs that are stored together, all or none."""

    model_config = shown({"jobs": [EXAMPLE, {"prompt": "Say hello."}]})

    jobs: Annotated[Listed[JobBody], Field(min_length=1)]

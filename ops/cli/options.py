"""The options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the database, the key and the logs (or PENSTOCK_DATA_DIR)."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Port = Annotated[int | None, typer.Option("--port", help="TCP port; 0 takes a free one.")]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Permit an address that other machines can reach.")
]
LlmPath = Annotated[
    str | None,
    typer.Option("--llm", metavar="PATH_OR_HUB_ID", help="Serve this LLM in place of pico."),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", help="Alias, from the settings' llms, of an LLM to serve; may be repeated."),
]
Url = Annotated[str | None, typer.Option("--url", help="Address of the service; default: this data dir's.")]
Key = Annotated[
    str | None, typer.Option("--key", help="API key, or @FILE that holds it; default: the data dir's.")
]

"""``penstock key``: API keys, straight in the database, so that it works without the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from ops.cli.invocation import Invocation
from ops.cli.options import DataDir, Json
from ops.complaint import Complaint
from ops.show import document, line, say, table

key = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose key it is.")]
Name = Annotated[str, typer.Argument(help="What the key is for.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, or the key itself.")]


@key.command()
def create(
    ctx: typer.Context,
    name: Name = "unnamed",
    tenant: Tenant = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a key; its text is shown this once."""
    call = Invocation.of(ctx, data_dir, json)
    from models import audit, keys, tenants
    from models.base import utcnow
    from ops.supervisor.preparation import CONSOLE

    with call.database() as database, database.write() as session:
        now = utcnow()
        tenants.ensure(session, tenant, now)
        text = keys.create(session, tenant, name, now)
        audit.record(session, [audit.row(tenant, CONSOLE, "key.create", _id(text), now)])
    if call.json:
        document({"id": _id(text), "name": name, "tenant": tenant, "key": text})
    else:
        print(text)
        say("Keep it now: only its hash is stored.")


@key.command("list")
def listed(
    ctx: typer.Context, tenant: Tenant = "default", data_dir: DataDir = None, json: Json = False
) -> None:
    """List keys; their texts cannot be had again."""
    call = Invocation.of(ctx, data_dir, json)
    from models import keys

    with call.database() as database, database.read() as session:
        found = keys.listed(session, tenant)
    if call.json:
        for row in found:
            line({"id": row.id, "name": row.name, "created_at": row.created_at, "revoked_at": row.revoked_at})
        return
    rows = [(row.id, row.name, _minute(row.created_at), _minute(row.revoked_at)) for row in found]
    table(None, ("id", "name", "created", "revoked"), rows)


@key.command()
def revoke(
    ctx: typer.Context,
    key_id: KeyId,
    tenant: Tenant = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take a key back: it opens nothing from the next request on."""
    call = Invocation.of(ctx, data_dir, json)
    from models import audit, keys
    from models.base import utcnow
    from ops.supervisor.preparation import CONSOLE

    wanted, now = _id(key_id), utcnow()
    with call.database() as database, database.write() as session:
        found = keys.revoke(session, tenant, wanted, now)
        if found:
            audit.record(session, [audit.row(tenant, CONSOLE, "key.revoke", wanted, now)])
    if not found:
        raise Complaint(f"There is no key {wanted} to revoke; `penstock key list` shows them.")
    if call.json:
        document({"id": wanted, "revoked": True})
    else:
        say(f"Key {wanted} is revoked.")


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _id(text: str) -> str:
    """The id within a key's text, or the id itself."""
    return text.split("_")[1] if text.startswith("pk_") else text

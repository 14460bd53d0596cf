"""Keys: list, make, revoke."""

from __future__ import annotations

from starlette.responses import Response

from api.bodies import JsonBody
from api.door import Seated
from api.explain import parse
from api.keyring import SHAPE
from api.openapi import accepts, answers, empty, make_router, problems
from api.problems import not_found
from api.views import json_answer
from api.wire.people import KeyBody, KeyList, KeyView, NewKeyView
from models import audit, keys
from models.base import utcnow
from models.keys import ApiKey

router = make_router("keys")


@router.get("/v1/keys", responses=answers(200, KeyList, "All keys, revoked ones too.") | problems())
def list_keys(desk: Seated) -> Response:
    """List the keys of your tenant."""
    with desk.database.read() as session:
        found = keys.listed(session, desk.caller.tenant_id)
    return json_answer(KeyList(data=[_view(key) for key in found]))


@router.post(
    "/v1/keys",
    status_code=201,
    openapi_extra=accepts(KeyBody),
    responses=answers(201, NewKeyView, "Made; the key is shown this once.") | problems(400, 413, 415),
)
def create_key(desk: Seated, body: JsonBody) -> Response:
    """Make a key for your tenant."""
    wanted, now = parse(KeyBody, body), utcnow()
    with desk.database.write() as session:
        text = keys.create(session, desk.caller.tenant_id, wanted.name, now)
        key_id = text.split("_")[1]
        (key,) = (key for key in keys.listed(session, desk.caller.tenant_id) if key.id == key_id)
        act = audit.row(desk.caller.tenant_id, desk.caller.key_id, "key.create", key_id, now)
        audit.record(session, [act])
    return json_answer(NewKeyView(**_view(key).model_dump(), key=text), 201)


@router.delete(
    "/v1/keys/{key_id}",
    status_code=204,
    responses=empty(204, "Revoked: refused from now on, by other processes within seconds.") | problems(404),
)
def revoke_key(desk: Seated, key_id: str) -> Response:
    """Revoke a key of your tenant."""
    now = utcnow()
    with desk.database.write() as session:
        known = SHAPE.fullmatch(f"pk_{key_id}_x") is not None
        if not known or not keys.revoke(session, desk.caller.tenant_id, key_id, now):
            raise not_found("valid key")
        act = audit.row(desk.caller.tenant_id, desk.caller.key_id, "key.revoke", key_id, now)
        audit.record(session, [act])
    desk.door.keyring.forget()
    return Response(None, 204)


def _view(key: ApiKey) -> KeyView:
    return KeyView(id=key.id, name=key.name, created_at=key.created_at, revoked_at=key.revoked_at)

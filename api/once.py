"""One act, one transaction, one answer: also when the request comes twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response

from api.depth import SECONDS
from api.door import Desk
from api.problems import Kind, Problem
from models import idempotency
from models.base import utcnow
from models.database import Unavailable
from models.hooks import Session
from models.idempotency import Answer

RETRY_AFTER = "1"
REPLAYED = "Idempotent-Replayed"

TRIES = 3
"""The second finds the answer of whoever was faster; the third is for one that was pruned in between."""


class Once:
    """The request of a caller under its Idempotency-Key, if it has one."""

    def __init__(self, desk: Desk, key: str | None, route: str, body: bytes) -> None:
        self._desk = desk
        self._key = key
        self._print = idempotency.fingerprint(route, body) if key is not None else ""

    def earlier(self) -> Response | None:
        """The first answer, if this request was answered before.

        Raises:
            Problem: 422, the key came with another request.
        """
        if self._key is None:
            return None
        with self._desk.database.read() as session:
            first = self._recall(session)
        return None if first is None else self._with_room(first, SECONDS)

    def act(self, act: Callable[[Session], Answer]) -> Response:
        """Do it in one transaction that also keeps the answer; what was done before is not done again.

        Raises:
            Unavailable: the answer could not be kept, several times; nothing was done.
        """
        for _ in range(TRIES):
            with suppress(idempotency.KeyTaken):  # who was faster has left an answer
                response = self._desk.door.together.write(lambda session: self._once(session, act))
                return self._with_room(response, math.inf)
        raise Unavailable("the answer to this Idempotency-Key can neither be kept nor found")

    def _with_room(self, response: Response, age: float) -> Response:
        """The answer with how many more jobs are taken, now that these are."""
        response.headers.update(self._desk.door.depth.headers(self._desk.caller.tenant_id, age))
        return response

    def _once(self, session: Session, act: Callable[[Session], Answer]) -> Response:
        if (first := self._recall(session)) is not None:
            return first
        answer = act(session)
        self._remember(session, answer)
        return _response(answer, replayed=False)

    def _recall(self, session: Session) -> Response | None:
        if self._key is None:
            return None
        try:
            first = idempotency.recall(session, self._desk.caller.tenant_id, self._key, self._print)
        except idempotency.KeyReused:
            raise Problem(
                Kind.IDEMPOTENCY_KEY_REUSED,
                "this Idempotency-Key came before with another request: use a new key for a new request",
            ) from None
        return None if first is None else _response(first, replayed=True)

    def _remember(self, session: Session, answer: Answer) -> None:
        if self._key is not None:
            tenant_id = self._desk.caller.tenant_id
            idempotency.remember(session, tenant_id, self._key, self._print, answer, utcnow())


def _response(answer: Answer, *, replayed: bool) -> Response:
    headers = {"Location": answer.location, "Retry-After": RETRY_AFTER}
    if replayed:
        headers[REPLAYED] = "true"
    return Response(answer.body, answer.status, headers, "application/json")

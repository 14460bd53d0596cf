"""What every request passes through before a route, as plain ASGI."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import REQUEST_ID, Kind, Problem
from config import telemetry
from config.settings import Server
from models.ids import new_id

log = logging.getLogger(__name__)
access = logging.getLogger("penstock.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "(none)"
"""The route template of a request that no route took."""

PATH_SHOWN = 200
"""Characters of a path that the access log shows."""

DRAIN_BYTES = 268_435_456
"""How much of a refused body is thrown away so that a closing connection still carries the answer."""


def stack(server: Server) -> list[Middleware]:
    """The middleware, outermost first: each sees the answers of all that stand below it."""
    return [
        Middleware(RequestIds),  # first, so that every answer carries an id
        Middleware(AccessLog),  # counts what the next ones refuse as well
        Middleware(Heads),  # behind the log, which shows what was asked
        Middleware(LastResort),  # turns what nobody caught into a 500
        Middleware(KnownHosts, names=server.allowed_hosts),  # before anything is read
        Middleware(BodyLimit, most=server.max_body_bytes),
    ]


class RequestIds:
    """Takes the id in ``X-Request-ID``, or makes one, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", given) else new_id("req")
        scope[REQUEST_ID] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        return await self.app(scope, receive, send_with_id)


class AccessLog:
    """Counts and times each answer under its route template, and logs a line about it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), 499  # the client went away before an answer

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    @staticmethod
    def _note(scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = getattr(scope.get("route"), "path_format", NO_ROUTE)
        telemetry.http_requests.labels(method, route, status).inc()
        telemetry.http_request_seconds.labels(method, route).observe(seconds)
        # The path came decoded: as it is, it could break the line or speak to a terminal.
        path = quote(scope["path"], errors="replace")[:PATH_SHOWN]
        access.info("%s %s %d %.1f ms %s", method, path, status, seconds * 1000, scope[REQUEST_ID])


class Heads:
    """Answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                # At once, for a stream would go on: it stops because the client seems to have gone.
                await send({"type": "http.response.body"})

        get = {**scope, "method": "GET"}
        try:
            await self.app(get, receive, send_start)
        finally:
            scope["route"] = get.get("route")  # for the log


class LastResort:
    """Answers 500 to whatever no handler caught, and tells the log alone what it was."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            log.exception("request %s failed", scope[REQUEST_ID])
            problem = Problem(Kind.INTERNAL, "the log has the reason under this request id")
            await problem.response(scope)(scope, receive, send)


class KnownHosts:
    """Refuses requests for other hosts: a web page must not reach us under its own name."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self.app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or "*" in self._names:
            return await self.app(scope, receive, send)
        host = Headers(scope=scope).get("host", "").lower()
        name = re.sub(r":\d+$", "", host)
        if name in self._names:
            return await self.app(scope, receive, send)
        problem = Problem(
            Kind.MISDIRECTED,
            f"the Host header says {name[:80]!r}; server.allowed_hosts lists who is answered",
        )
        return await problem.response(scope)(scope, receive, send)


class BodyLimit:
    """Refuses bodies above a size, told or not, without ever holding one."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told) > self._most:
            if "expect" not in headers:  # who expects to be asked has sent nothing yet
                await _drain(scope, receive)
            return await self._problem().response(scope)(scope, receive, send)
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                await _drain(scope, receive)
                raise self._problem()
            return message

        return await self.app(scope, receive_some, send)

    def _problem(self) -> Problem:
        return Problem(
            Kind.TOO_LARGE,
            f"at most {self._most} bytes are taken: send less, or several bulks (server.max_body_bytes)",
        )


async def _drain(scope: Scope, receive: Receive) -> None:
    """Throw the rest of a body away, piece by piece, if the connection will be closed after it.

    A connection that is closed while the client still sends is reset, and the
    answer is lost with it. One that is kept alive is drained by the server.
    """
    closing = Headers(scope=scope).get("connection", "").lower() == "close"
    if not closing and scope.get("http_version") != "1.0":
        return
    left = DRAIN_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return

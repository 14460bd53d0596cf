"""Serving the application until it is told to stop."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.door import Door
from api.problems import REQUEST_ID, Kind, Problem
from config.prices import load_prices
from config.settings import Settings
from models.database import Database
from models.ids import new_id

SWITCH_SECONDS = 0.001
"""How soon a thread that parses a bulk lets others on: with Python's usual 5 ms, single jobs waited long."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than clients keep theirs, so that they close it, not we."""

GRACE_SECONDS = 10
"""How long requests in flight may go on after a signal; those that wait are answered at once."""


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, but what is no HTTP is refused by a problem too."""

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, and hang up."""
        request_id = new_id("req")
        answer = Problem(Kind.MALFORMED_HTTP, msg).response({REQUEST_ID: request_id})
        answer.headers.update({"X-Request-ID": request_id, "Connection": "close"})
        head = [b"HTTP/1.1 400 Bad Request", *(b"%b: %b" % header for header in answer.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn that lets long-polls and streams go as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wake everybody who waits, then stop as usual."""
        self._door.watcher.close()
        await super().shutdown(sockets)


def serve(settings: Settings, check_schema: Callable[[Database], None]) -> None:
    """Answer HTTP until a signal comes. ``check_schema`` raises when the schema is not this version's."""
    sys.setswitchinterval(SWITCH_SECONDS)
    database = Database.connect(
        settings.database_url,
        pool_size=settings.database.pool_size,
        busy_timeout_ms=settings.database.busy_timeout_ms,
    )
    try:
        check_schema(database)
        app = create_app(settings, database, prices=load_prices())
        config = uvicorn.Config(
            app,
            host=settings.server.host,
            port=settings.server.port,
            http=Protocol,
            loop="uvloop",
            ws="none",
            log_config=None,
            access_log=False,  # the application has its own
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        Server(config, app.state.door).run()
    finally:
        database.close()

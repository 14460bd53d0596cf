"""One client of a server, as light as the standard library's, so that all servers are asked alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any, Self
from urllib.parse import urlsplit

from ops.complaint import Complaint

PATIENCE_SECONDS = 600.0


class Door:
    """A connection that is kept where the server keeps it; one request at a time."""

    def __init__(self, url: str, key: str = "") -> None:
        place = urlsplit(url)
        self._http = HTTPConnection(place.hostname or "", place.port, timeout=PATIENCE_SECONDS)
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a JSON body; return the JSON answer.

        Raises:
            Complaint: the answer is not a success.
            OSError, HTTPException: there is no answer.
        """
        return self._ask("POST", path, json.dumps(body))

    def get(self, path: str) -> dict[str, Any]:
        """Ask for a path; raises as :meth:`post`."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        try:
            self._http.request(method, path, body, self._headers)
            answer = self._http.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            self._http.close()
            raise
        if not 200 <= answer.status < 300:
            raise Complaint(f"{method} {path} was refused: {answer.status} {content.decode()[:500]}")
        found: dict[str, Any] = json.loads(content)
        return found

"""A small client of the service's HTTP interface, for the console script, the demo and the benchmarks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, cast
from urllib.parse import quote, urlsplit

import httpx2

from config.settings import is_loopback
from ops.wire import ENDED, Agent, Bulk, Command, Event, Job, Refused, Unreachable

WAIT_SECONDS = 30.0
"""How long one request waits for a change before the next one asks again."""

PATIENCE_SECONDS = 20.0
"""How long a wait goes on when the service does not answer: it may be restarting."""

FULL_SECONDS = 60.0
"""How long a submission waits in all when the service says to come back later."""

PAUSE_SECONDS = 0.2
NOTHING_MORE, TOO_MANY, UNAVAILABLE = 204, 429, 503

Told = Callable[[str], None]
"""Is told, once, why a submission waits."""


class StreamOver(Exception):  # noqa: N818 - it is how a stream ends well
    """The job has ended, and all its events have been seen."""


class Client:
    """One service and one key; closes its connections at the end of a ``with`` block."""

    def __init__(self, url: str, key: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        # A proxy is for other machines: it would not know what our own loopback address means.
        local = is_loopback(urlsplit(self.url).hostname or "")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(30.0, read=WAIT_SECONDS + 30.0),
            transport=transport,
            trust_env=not local,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self, body: Mapping[str, Any], idempotency_key: str | None = None, told: Told | None = None
    ) -> Job:
        """Store one job; it is safe to repeat under the same ``idempotency_key``.

        Raises:
            Refused: also when there is no room for it, within ``FULL_SECONDS``.
        """
        return cast(Job, self._store("/v1/jobs", idempotency_key, told, json=dict(body)))

    def bulk(self, bodies: Iterable[Mapping[str, Any]], told: Told | None = None) -> Bulk:
        """Store many jobs at once, all or none; raises as :meth:`submit`."""
        lines = "\n".join(json.dumps(dict(body), ensure_ascii=False) for body in bodies)
        return self.bulk_lines(lines.encode(), told)

    def bulk_lines(self, lines: bytes, told: Told | None = None) -> Bulk:
        """Store the jobs of a JSONL text as it is; raises as :meth:`submit`."""
        headers = {"Content-Type": "application/jsonl"}
        return cast(Bulk, self._store("/v1/bulk", None, told, content=lines, headers=headers))

    def _store(self, path: str, key: str | None, told: Told | None, **options: Any) -> Any:
        """Submit under one key for as long as the service says when to come back, and patience lasts."""
        headers = {**options.pop("headers", {}), "Idempotency-Key": key or uuid.uuid4().hex}
        left = FULL_SECONDS
        while True:
            try:
                return self._json("POST", path, headers=headers, **options)
            except Refused as refused:
                pause = refused.retry_after
                if refused.status not in {TOO_MANY, UNAVAILABLE} or pause is None or pause > left:
                    raise
                if told is not None and left == FULL_SECONDS:
                    told(f"{refused} Trying again for up to {FULL_SECONDS:.0f} s.")
            left -= pause
            time.sleep(pause)

    def job(self, job_id: str, wait: float | None = None) -> Job:
        """One job; with ``wait`` the answer comes when it has ended, or after so many seconds."""
        return cast(Job, self._json("GET", f"/v1/jobs/{quote(job_id)}", params=_given(wait=wait)))

    def bulk_state(self, bulk_id: str, wait: float | None = None) -> Bulk:
        """One bulk; ``wait`` as for a job."""
        return cast(Bulk, self._json("GET", f"/v1/bulk/{quote(bulk_id)}", params=_given(wait=wait)))

    def wait(self, job_id: str, seconds: float | None = None) -> Job:
        """The job once it has ended, or as it is after ``seconds``.

        Raises:
            Unreachable: the service was gone for longer than a restart takes.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - time.monotonic())
            job = self._patiently(job_id, max(0.0, left))
            if job["state"] in ENDED or (deadline is not None and time.monotonic() >= deadline):
                return job

    def _patiently(self, job_id: str, wait: float) -> Job:
        since = time.monotonic()
        while True:
            try:
                return self.job(job_id, wait=wait)
            except (Unreachable, Refused) as error:
                _bear(error, since, PATIENCE_SECONDS + wait)

    def jobs(self, limit: int | None = None, **filters: Any) -> Iterator[Job]:
        """Jobs that pass the filters, newest first, over as many pages as it takes."""
        return cast(Iterator[Job], self._pages("/v1/jobs", limit, **filters))

    def _pages(self, path: str, limit: int | None, **filters: Any) -> Iterator[Any]:
        left, cursor = limit, None
        while left is None or left > 0:
            size = 200 if left is None else min(200, left)
            page = self._json("GET", path, params=_given(cursor=cursor, limit=size, **filters))
            yield from page["data"]
            cursor = page.get("next_cursor")
            left = None if left is None else left - len(page["data"])
            if not cursor:
                return

    def agents(self) -> Iterator[Agent]:
        """All agents by name, over as many pages as it takes."""
        return cast(Iterator[Agent], self._pages("/v1/agents", None))

    def agent(self, name: str) -> Agent:
        """One agent."""
        return cast(Agent, self._json("GET", f"/v1/agents/{quote(name)}"))

    def delete_agent(self, name: str) -> None:
        """Delete an agent and its caches."""
        self._call("DELETE", f"/v1/agents/{quote(name)}")

    def save(self, name: str) -> Command:
        """Have an agent's cache written to disk."""
        return cast(Command, self._json("POST", f"/v1/agents/{quote(name)}/save"))

    def warm(self, name: str, body: Mapping[str, Any]) -> Command:
        """Have an agent's cache, or that of the messages in ``body``, in memory."""
        return cast(Command, self._json("POST", f"/v1/agents/{quote(name)}/warm", json=dict(body)))

    def end_of(self, command: Command) -> Command:
        """A command when it has ended."""
        while command["finished_at"] is None:
            path = f"/v1/commands/{quote(command['id'])}"
            command = cast(Command, self._json("GET", path, params={"wait": WAIT_SECONDS}))
        return command

    def cancel(self, job_id: str) -> Job:
        """Ask for a job to stop."""
        return cast(Job, self._json("POST", f"/v1/jobs/{quote(job_id)}/cancel"))

    def retry(self, job_id: str) -> Job:
        """A new job that asks what an ended one asked; raises as :meth:`submit`."""
        return cast(Job, self._store(f"/v1/jobs/{quote(job_id)}/retry", None, None))

    def prioritise(self, job_id: str, priority: str) -> Job:
        """Put a waiting job into another class."""
        body = {"priority": priority}
        return cast(Job, self._json("PATCH", f"/v1/jobs/{quote(job_id)}", json=body))

    def queues(self) -> dict[str, Any]:
        """The queues that hold jobs (``data``), and what each configured one does (``modes``)."""
        return cast(dict[str, Any], self._json("GET", "/v1/queues"))

    def steer(self, llm: str, act: str) -> dict[str, Any]:
        """Let the queue of an LLM ``pause``, ``drain`` or ``resume``; how it is then."""
        return cast(dict[str, Any], self._json("POST", f"/v1/queues/{quote(llm)}/{act}"))

    def set_window(self, llm: str, ms: float) -> dict[str, Any]:
        """Let the workers of an LLM gather arrivals for so many milliseconds; how its queue is then."""
        body = {"window_ms": ms}
        return cast(dict[str, Any], self._json("PATCH", f"/v1/queues/{quote(llm)}", json=body))

    def delete(self, job_id: str) -> None:
        """Delete an ended job."""
        self._call("DELETE", f"/v1/jobs/{quote(job_id)}")

    def events(self, job_id: str, after: str | None = None) -> Iterator[Event]:
        """A job's events as they come, until it has ended; goes on where a broken stream stopped."""
        since = time.monotonic()
        while True:
            try:
                for event in self._stream(job_id, after):
                    after, since = event.id or after, time.monotonic()
                    yield event
                    if event.type == "state" and event.data.get("state") in ENDED:
                        return
            except (Unreachable, Refused) as error:
                _bear(error, since, PATIENCE_SECONDS)
            except StreamOver:
                return

    def _stream(self, job_id: str, after: str | None) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        try:
            with self._http.stream("GET", f"/v1/jobs/{quote(job_id)}/events", headers=headers) as answer:
                if answer.is_error:
                    answer.read()
                    raise Refused(answer)
                if answer.status_code == NOTHING_MORE:
                    raise StreamOver
                yield from events_of(answer.iter_lines())
        except httpx2.TransportError as error:
            raise Unreachable(self.url, error) from error

    def metrics(self) -> str:
        """All metrics in Prometheus's text format."""
        return self._call("GET", "/metrics").text

    def _json(self, method: str, path: str, **options: Any) -> Any:
        return self._call(method, path, **options).json()

    def _call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise Unreachable(self.url, error) from error
        if answer.is_error:
            raise Refused(answer)
        return answer


def _bear(error: Unreachable | Refused, since: float, seconds: float) -> None:
    """Pause before another try, where one may help: the service restarts, or its database is busy."""
    passing = isinstance(error, Unreachable) or error.status == UNAVAILABLE
    if not passing or time.monotonic() - since > seconds:
        raise error
    time.sleep(PAUSE_SECONDS)


def _given(**values: Any) -> dict[str, Any]:
    """Those of the parameters that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events (the HTML standard's event stream format) out of their lines."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}

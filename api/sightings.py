"""What the watcher looks at: jobs, bulks, commands, and the newest events of jobs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from models import bulks, commands, events, listing
from models.changes import Changes
from models.database import Database

EVENTS = "events:"
"""Before a job's id: its newest event rather than the job itself."""

AT_ONCE = 500
"""Keys in one query."""


class Sightings:
    """Looks at many keys in a few queries, and not at all while nobody changed anything."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = Changes(database)
        self._last: dict[str, Hashable] = {}

    def look(self, keys: Sequence[str]) -> Mapping[str, Hashable]:
        """The state of each key: (version, ended) of a job, an event's id or 0, whether all else is over."""
        if self._changes.look() or not self._last.keys() >= set(keys):
            self._last = {}  # should reading fail, the next look reads again: nobody is taken for gone
            found: dict[str, Hashable] = dict.fromkeys(keys)
            for first in range(0, len(keys), AT_ONCE):
                found.update(self._read(keys[first : first + AT_ONCE]))
            self._last = found
        return self._last

    def _read(self, keys: Sequence[str]) -> dict[str, Hashable]:
        jobs = [key for key in keys if key.startswith("job_")]
        orders = [key for key in keys if key.startswith("cmd_")]
        several = [key for key in keys if key.startswith("bulk_")]
        streams = [key.removeprefix(EVENTS) for key in keys if key.startswith(EVENTS)]
        found: dict[str, Hashable] = {}
        with self._database.read() as session:
            if jobs:
                found.update(listing.versions(session, jobs))
            if orders:
                found.update(commands.over(session, orders))
            for bulk_id in several:
                found[bulk_id] = bulks.is_over(session, bulk_id)
            if streams:
                newest = events.newest(session, streams)  # none yet is not the same as a job that is gone
                there = listing.versions(session, streams)
                found.update({EVENTS + job_id: newest.get(job_id, 0) for job_id in there})
        return found

    def close(self) -> None:
        """Give up the connection kept for looking."""
        self._changes.close()

"""The writing thread of the disk tier, and what it has to do."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from workers.cache.disk_entry import Entry
from workers.cache.disk_folder import BlockFolder
from workers.cache.disk_keeper import Keeper
from workers.cache.disk_queue import WriteQueue
from workers.cache.disk_record import Record
from workers.vital import ends

log = logging.getLogger(__name__)

Task = Callable[[], None]


class Writer:
    """Scans the folder, then does what it is asked to: what is damaged first, what is to be written last.

    All but :meth:`start`, :meth:`stop` and what the thread does is called under ``changed``.
    ``off`` is why nothing is written at present.
    """

    def __init__(
        self,
        folder: BlockFolder,
        keeper: Keeper,
        changed: threading.Condition,
        *,
        queue_bytes: int,
        retry_seconds: float,
    ) -> None:
        self._folder = folder
        self._keeper = keeper
        self._changed = changed
        self._retry_seconds = retry_seconds
        self._retry_at = 0.0
        self._lacking_bytes = 0
        self.queue = WriteQueue(queue_bytes)
        self._damaged: deque[tuple[Entry, str]] = deque()
        self._forgets: deque[tuple[str, Future[int]]] = deque()
        self._settling: list[Future[None]] = []
        self._is_idle = False
        self._is_stopping = False
        self._has_ended = False
        self.off: str | None = None
        self._thread = threading.Thread(target=self._run, name="disk-writer", daemon=True)

    def start(self) -> None:
        """Begin to look at what is there."""
        self._thread.start()

    def stop(self, timeout: float | None) -> bool:
        """Let it finish what it has to do, and give up what takes longer; whether it has ended."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        has_ended = ends(self._thread, timeout)
        with self._changed:
            self._give_up()
            self._has_ended |= has_ended
        return has_ended

    def put(self, records: Sequence[Record], owner: str) -> bool:
        """Queue files for the agent with this mark; False if nothing more is taken now."""
        if self.is_off or not self.queue.put(records, owner):
            return False
        self._changed.notify_all()
        return True

    def forget(self, owner: str) -> Future[int]:
        """Delete what the agent with this mark has; what is queued of it is not written."""
        answer: Future[int] = Future()
        answer.set_running_or_notify_cancel()  # it cannot be taken back
        if self._has_ended:
            answer.set_exception(RuntimeError("the disk tier has stopped"))
        else:
            self.queue.drop(owner)
            self._forgets.append((owner, answer))
            self._changed.notify_all()
        return answer

    def written(self) -> Future[None]:
        """Done when there is nothing to do; with RuntimeError if nothing is written then."""
        answer: Future[None] = Future()
        self._settling.append(answer)
        if self.is_settled:
            self._settle()
        return answer

    def condemn(self, entry: Entry, why: str) -> None:
        """Have a damaged file set aside."""
        self._damaged.append((entry, why))
        self._changed.notify_all()

    @property
    def is_off(self) -> bool:
        """Whether nothing is taken to be written."""
        return self.off is not None or self._is_stopping or self._has_ended

    @property
    def is_settled(self) -> bool:
        """Whether it has nothing to do, or does nothing any more."""
        return self._has_ended or (self._is_idle and not self._has_work)

    @property
    def _has_work(self) -> bool:
        return bool(self._damaged or self._forgets or self.queue)

    # Everything below runs in the thread.

    def _run(self) -> None:
        try:
            while not self._open():
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopping, self._retry_seconds)
                    if self._is_stopping:
                        return
            while (task := self._next()) is not None:
                self._do(task)
        except Exception as error:
            log.critical("The disk tier broke; nothing is written any more", exc_info=True)
            with self._changed:
                self.off = f"it broke: {error!r}"
        finally:
            self._folder.release()
            with self._changed:
                self._give_up()
                self._has_ended = True
                self._settle()
                self._changed.notify_all()

    def _open(self) -> bool:
        """Take the folder and scan it; False if that has to be tried again."""
        try:
            if not self._folder.claim():
                self._switch_off("another process uses the folder")
                return False
            for _ in self._keeper.scan():
                if self._is_stopping and not self._has_work:
                    break
        except OSError as error:
            self._folder.release()
            self._switch_off(error.strerror or str(error))
            return False
        self._switch_on()
        return True

    def _next(self) -> Task | None:
        """Wait for something to do; None when it is time to end."""
        with self._changed:
            while True:
                task = self._choose()
                self._is_idle = task is None
                if task is None:
                    self._settle()
                if task or self._is_stopping:
                    return task
                self._changed.notify_all()
                self._changed.wait(None if self.off is None else max(0.0, self._retry_at - time.monotonic()))

    def _choose(self) -> Task | None:
        if self._damaged:
            return partial(self._keeper.set_aside, *self._damaged.popleft())
        if self._forgets:
            return partial(self._forget, *self._forgets.popleft())
        if self.off is not None and time.monotonic() >= self._retry_at:
            return self._try_again
        if self.queue.has_next:
            return self._write
        return None

    def _do(self, task: Task) -> None:
        try:
            task()
        except OSError as error:
            self._switch_off(error.strerror or str(error))

    def _write(self) -> None:
        with self._changed:
            if not self.queue.has_next:
                return  # an agent was forgotten just now
            waiting = self.queue.take()
        self._lacking_bytes = waiting.record.nbytes
        try:
            self._keeper.store(waiting.record, waiting.owner)
        except OSError:
            with self._changed:
                self._keeper.tally.refused += 1
            raise
        finally:
            with self._changed:
                self.queue.done()

    def _forget(self, owner: str, answer: Future[int]) -> None:
        try:
            answer.set_result(self._keeper.forget(owner))
        except Exception as error:
            answer.set_exception(error)
            if not isinstance(error, OSError):
                raise
            log.error("Not all of an agent's blocks could be deleted: %s", error)

    def _try_again(self) -> None:
        self._keeper.check_room(self._lacking_bytes)
        self._switch_on()

    def _switch_off(self, why: str) -> None:
        with self._changed:
            if self.off is None:
                log.warning("No blocks are written to disk: %s", why)
            self.off = why
            self._retry_at = time.monotonic() + self._retry_seconds
            self._keeper.tally.refused += self.queue.drop()

    def _switch_on(self) -> None:
        with self._changed:
            if self.off is not None:
                log.info("Blocks are written to disk again")
            self.off = None

    def _settle(self) -> None:
        """Answer those who wait until everything is written."""
        settling, self._settling = self._settling, []
        why = "the disk tier has stopped" if self._has_ended else self.off
        for answer in settling:
            if why is None:
                answer.set_result(None)
            else:
                answer.set_exception(RuntimeError(f"nothing is written: {why}"))

    def _give_up(self) -> None:
        """Forget what nobody is going to do."""
        self._keeper.tally.refused += self.queue.drop()
        for _, answer in self._forgets:
            answer.set_exception(RuntimeError("the disk tier has stopped"))
        self._forgets.clear()
        self._damaged.clear()

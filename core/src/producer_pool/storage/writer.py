"""The thread of a spool: takes what was asked for, writes as much as has gathered at once, and answers."""
# Rule: everything of SQLite lives in this thread's frames. After a fork() they are neither run nor freed in
# the child, so nothing there can close, and by that change, the database of the parent.

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from producer_pool.model.loglimit import LogLimit, and_more
from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch
from producer_pool.model.text import format_count
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.record import Pending

__all__ = ["Append", "Close", "Join", "Leave", "Moves", "Opened", "Read", "Request", "Skip", "Writer"]

_log: Final = logging.getLogger(__name__)

GROUP_BYTES: Final = 4 * 1024 * 1024
"""Bytes that are written in one transaction, at about the most."""
_GROUP: Final = 5000
"""Requests that are answered together, at the most."""


class Append(NamedTuple):
    """Store this."""

    batch: Pending
    done: Callable[[int | None], None]


class Read(NamedTuple):
    """Read for a producer."""

    producer_id: str
    after: int
    most: int
    done: Callable[[list[StoredBatch], int], None]


class Skip(NamedTuple):
    """Drop so many bytes for a producer; None: what is too old."""

    producer_id: str
    after: int
    enough: int | None
    done: Callable[[int, int, int], None]


class Join(NamedTuple):
    """Keep batches for a producer; *last* is the newest that is not for it."""

    producer_id: str
    last: int


class Leave(NamedTuple):
    """Keep none for it any more."""

    producer_id: str


class Moves(NamedTuple):
    """Note up to where producers are done."""

    numbers: Mapping[str, int]


class Close(NamedTuple):
    """Write what is to be written, and end."""

    done: Callable[[], None]


Request = Append | Read | Skip | Join | Leave | Moves | Close


class Opened(NamedTuple):
    """What was found in a spool."""

    last: int
    backlogs: dict[str, Backlog]
    everything: Backlog | None
    """What lies there for one who is not known, if all is sent again."""


class Answers:
    """What goes back to the loop, in one piece for all that was written at once."""

    def __init__(self, send: Callable[[list[Callable[[], None]]], None]) -> None:
        self._send: Final = send
        self._calls: list[Callable[[], None]] = []

    def add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def go(self) -> None:
        calls, self._calls = self._calls, []
        if calls:
            self._send(calls)


class Writer:
    """
    Runs a Keeper on a daemon thread.

    *send* gets what is to be called on the loop: from this thread, and in order. *lost* and *changed*
    are among that.
    """

    def __init__(self, folder: Folder, spool: Spool) -> None:
        self._folder: Final = folder
        self._spool: Final = spool
        self._requests: Final[queue.SimpleQueue[Request]] = queue.SimpleQueue()
        self._answered: Final[queue.SimpleQueue[Opened | BaseException]] = queue.SimpleQueue()
        self.thread: Final = threading.Thread(target=self._run, name=f"spool {folder.path.name}", daemon=True)
        self.put: Final = self._requests.put
        self.send: Callable[[list[Callable[[], None]]], None] = lambda calls: None
        self.lost: Callable[[str, int, int], None] = lambda producer_id, messages, nbytes: None
        self.changed: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self.excess = 0
        self._limit: Final = LogLimit()

    def open(self) -> Opened:
        """
        Start the thread, and wait until it has opened the spool.

        Raises:
            Exception: what kept it from that.
        """
        self.thread.start()
        answer = self._answered.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    # -- the thread's side -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            keeper = Keeper(self._folder, self._spool)
            found = Opened(
                keeper.last,
                {name: keeper.backlog(name) for name in keeper.positions},
                keeper.backlog_of_all() if keeper.resend else None,
            )
        except BaseException as error:
            self._answered.put(error)
            return
        self.trouble, self.excess = keeper.trouble, keeper.excess
        self._answered.put(found)
        answers = Answers(lambda calls: self.send(calls))
        held: list[Read | Skip] = []
        closing: Close | None = None
        while closing is None:
            requests = self._gathered(keeper.due())
            closing = next((one for one in requests if isinstance(one, Close)), None)
            unanswered = deque(one for one in requests if isinstance(one, Append))
            try:
                self._write(keeper, requests, unanswered, answers)
                asked = held + [one for one in requests if isinstance(one, Read | Skip)]
                held = []
                while asked:
                    if not self._answer(keeper, asked[0], answers):
                        held.append(asked[0])
                    if isinstance(asked.pop(0), Skip):
                        keeper.move_on()
                # Who waits for that goes on while the disk has more to do.
                self._tell(keeper, answers)
                keeper.tick(time.monotonic())
            except Exception:
                # A thread that ends would keep everybody waiting for ever.
                _log.exception("spool %s: unexpected; what came with it is not stored", self._folder)
                keeper.fail(f"{self._folder}: an unexpected error, see the log; it is tried again")
                for append in unanswered:
                    answers.add(_bound(append.done, None))
            self._tell(keeper, answers)
        try:
            keeper.close()
        except Exception:
            _log.exception("spool %s: unexpected; it is closed all the same", self._folder)
        # Here and not on the loop, which may not have waited for it.
        self._folder.unlock()
        answers.add(closing.done)
        answers.go()

    def _tell(self, keeper: Keeper, answers: Answers) -> None:
        if (self.trouble, self.excess) != (keeper.trouble, keeper.excess):
            self.trouble, self.excess = keeper.trouble, keeper.excess
            answers.add(self.changed)
        answers.go()

    def _gathered(self, due: float | None) -> list[Request]:
        """Wait for requests, until something is *due*, and return all that are there, within bounds."""
        requests: list[Request] = []
        size = 0
        try:
            wait = None if due is None else max(0.0, due - time.monotonic())
            while size < GROUP_BYTES and len(requests) < _GROUP:
                request = self._requests.get(timeout=wait) if not requests else self._requests.get_nowait()
                requests.append(request)
                if isinstance(request, Append):
                    size += request.batch.nbytes
        except queue.Empty:
            pass
        return requests

    def _write(
        self, keeper: Keeper, requests: list[Request], unanswered: deque[Append], answers: Answers
    ) -> None:
        """Do what changes something, in its order, and as far as possible in one transaction."""
        appends: list[Append] = []
        for request in requests:
            match request:
                case Append():
                    appends.append(request)
                case Moves():
                    for name, number in request.numbers.items():
                        keeper.move(name, number)
                case Join() | Leave():
                    # What was stored before is for others.
                    self._store(keeper, appends, unanswered, answers)
                    appends = []
                    if isinstance(request, Join):
                        keeper.join(*request)
                    else:
                        keeper.leave(*request)
                case _:
                    pass
        self._store(keeper, appends, unanswered, answers)

    @staticmethod
    def _store(keeper: Keeper, appends: list[Append], unanswered: deque[Append], answers: Answers) -> None:
        if not appends:
            keeper.move_on()
            return
        stored = keeper.store([append.batch for append in appends])
        for append in appends:
            unanswered.popleft()
            answers.add(_bound(append.done, append.batch.number if stored else None))

    def _answer(self, keeper: Keeper, request: Read | Skip, answers: Answers) -> bool:
        """Answer what is asked for, unless it has to wait until the disk is well again."""
        if isinstance(request, Skip):
            dropped = keeper.skip(request.producer_id, request.after, request.enough)
            if dropped is not None:
                answers.add(_bound(request.done, *dropped))
            return dropped is not None
        found = keeper.read(request.producer_id, request.after, request.most)
        if found is None:
            return False
        batches, upto, lost = found
        if lost.messages:
            if (left_out := self._limit.allow(request.producer_id, time.monotonic())) is not None:
                _log.error(
                    "%s: %s damaged or gone from the spool %s%s",
                    request.producer_id,
                    format_count(lost.messages, "message is", "messages are"),
                    self._folder,
                    and_more(left_out),
                )
            answers.add(_bound(self.lost, request.producer_id, *lost))
        answers.add(_bound(request.done, batches, upto))
        return True


def _bound(function: Callable[..., None], *values: object) -> Callable[[], None]:
    return lambda: function(*values)

"""What may come in the middle of an append, at every point of it: a thread, a handler, an interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType

import pytest

from producer_pool.delivery import submitlog
from producer_pool.delivery.receipts import Receipt
from producer_pool.delivery.submitlog import LoopLog, OpenPage, SubmitLog
from support.interrupts import Interrupted, interrupted_at
from support.waiting import BOUND

ALL = ("a", "b")
FOLDER = Path(submitlog.__file__).parent

Log = SubmitLog[Receipt]


class Lock:
    """A lock of a log that tells when a thread comes to it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.moved = threading.Event()

    def acquire(self) -> None:
        self.moved.set()
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class NoLock(Lock):
    """The naive one: it locks nobody out."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass


class Unaware(Lock):
    """The naive one: it does not know whose it is."""

    def _is_owned(self) -> bool:
        return False


class UnawareLog(LoopLog[Receipt]):
    """The naive one: it does not know that it is in the middle of something."""

    @property
    def _inside(self) -> bool:
        return False

    @_inside.setter
    def _inside(self, inside: bool) -> None:
        pass


class Story:
    """A log in which a message lies, the receipts of what is appended, and what the loop took."""

    def __init__(self, kind: type[Log], lock: type[Lock]) -> None:
        self.wakes = 0
        self.log = kind(self._wake, Receipt)
        self.lock = lock()
        self.log._lock = self.lock  # type: ignore[assignment]
        self.receipts: dict[bytes, Receipt] = {}
        self.taken: dict[OpenPage, list[bytes]] = {}
        self.threads: list[threading.Thread] = []
        self.append(b"first")

    def _wake(self) -> None:
        self.wakes += 1

    def append(self, message: bytes) -> None:
        self.receipts[message] = self.log.append(ALL, message)

    def swap(self) -> None:
        """Do what the loop does: what comes to a page later is lost."""
        for entry in self.log.swap():
            assert isinstance(entry, OpenPage)
            self.taken[entry] = list(entry.give_away())

    def in_thread(self, *calls: Callable[[], None]) -> None:
        """Make *calls* on another thread, up to where it has to wait for this one."""

        def run() -> None:
            for call in calls:
                call()
            self.lock.moved.set()

        self.lock.moved.clear()
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        assert self.lock.moved.wait(BOUND)

    def struck(self, number: int, comes: Callable[[], None]) -> str:
        """Append, and have *comes* come at that point; return where that is, or '' if there are fewer."""

        def handler(signum: int, frame: FrameType | None) -> None:
            comes()

        return interrupted_at(number, partial(self.append, b"mine"), FOLDER, handler)

    def lost(self) -> list[bytes]:
        """Return the messages that the loop did not get where their receipts say, once all is over."""
        for thread in self.threads:
            thread.join(BOUND)
            assert not thread.is_alive()
        self.swap()
        return [
            message
            for message, receipt in self.receipts.items()
            if self.taken[receipt._page][receipt._index : receipt._index + 1] != [message]
        ]


def losses(kind: type[Log], lock: type[Lock], comes: Callable[[Story], None]) -> dict[str, list[bytes]]:
    """Have *comes* come at each point of an append, in a story of its own; return where what was lost."""
    found: dict[str, list[bytes]] = {}
    for number in count(1):
        story = Story(kind, lock)
        where = story.struck(number, partial(comes, story))
        if not where:
            break
        found[f"{number}: {where}"] = story.lost()
    assert len(found) > 2
    return {where: lost for where, lost in found.items() if lost}


def another_appends(story: Story) -> None:
    story.in_thread(lambda: story.append(b"another"))


def loop_comes(story: Story) -> None:
    story.in_thread(story.swap)


def interrupt() -> None:
    raise Interrupted


def handler_appends(story: Story) -> None:
    story.append(b"between")


@pytest.mark.parametrize("comes", [another_appends, loop_comes])
def test_other_thread_in_the_middle(comes: Callable[[Story], None]) -> None:
    """It waits, and each receipt is about its own message."""
    assert losses(SubmitLog, Lock, comes) == {}


@pytest.mark.parametrize("comes", [another_appends, loop_comes])
def test_other_thread_without_a_lock(comes: Callable[[Story], None]) -> None:
    """The control: somewhere a message is lost, or two receipts are about one."""
    assert losses(SubmitLog, NoLock, comes) != {}


@pytest.mark.parametrize("kind", [SubmitLog, LoopLog])
def test_append_in_the_middle(kind: type[Log]) -> None:
    """A signal handler may append anywhere, and each receipt is about its own message."""
    assert losses(kind, Lock, handler_appends) == {}


@pytest.mark.parametrize("kind, lock", [(SubmitLog, Unaware), (UnawareLog, Lock)])
def test_append_in_the_middle_unawares(kind: type[Log], lock: type[Lock]) -> None:
    """The control: where it goes on with the same page, two receipts are about one message."""
    assert losses(kind, lock, handler_appends) != {}


@pytest.mark.parametrize("kind", [SubmitLog, LoopLog])
def test_interrupt_in_the_middle(kind: type[Log]) -> None:
    """Wherever it comes, others can append after it, and the loop is told of what is there."""
    for number in count(1):
        story = Story(kind, Lock)
        story.swap()
        story.wakes = 0
        where = story.struck(number, interrupt)
        if not where:
            break

        assert story.wakes > 0 or story.log.empty, where

        story.in_thread(partial(story.append, b"next"))

        assert story.lost() == [], where

    assert number > 3

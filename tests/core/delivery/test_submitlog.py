"""What threads append to and the loop swaps out."""

import gc
import math
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from producer_pool.delivery.receipts import Receipt
from producer_pool.delivery.submitlog import LOG_BYTES, PAGE_BYTES, LoopLog, OpenPage, SubmitLog
from producer_pool.model.errors import ForkedPool, Full, PoolClosed, WrongThread
from producer_pool.model.outcomes import Outcome
from support.processes import run_program
from support.waiting import BOUND, eventually

ALL = ("a", "b")
SOME = ("b",)


class Wakes:
    """Counts how often the loop is woken."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
def log(wakes: Wakes, request: pytest.FixtureRequest) -> SubmitLog[Receipt]:
    kind: type[SubmitLog[Receipt]] = getattr(request, "param", SubmitLog)
    return kind(wakes, Receipt)


KINDS = pytest.mark.parametrize("log", [SubmitLog, LoopLog], indirect=True)
"""For what holds without threads, too."""


def pages(log: SubmitLog[Receipt]) -> list[tuple[tuple[str, ...], list[bytes]]]:
    """Swap, and return targets and messages of each page; calls must not be among them."""
    return [(tuple(page.targets), page.messages) for page in log.swap() if isinstance(page, OpenPage)]


# -- pages -----------------------------------------------------------------------------------------


@KINDS
def test_messages_to_the_same_targets(log: SubmitLog[Receipt], wakes: Wakes) -> None:
    """They share a page, and the loop is woken once."""
    for number in range(10):
        log.append(ALL, b"%d" % number)

    assert pages(log) == [(ALL, [b"%d" % number for number in range(10)])]
    assert wakes.count == 1
    assert log.empty


@KINDS
def test_messages_to_different_targets(log: SubmitLog[Receipt]) -> None:
    """Their order is kept, page by page."""
    for targets, message in ((ALL, b"1"), (SOME, b"2"), (ALL, b"3"), (ALL, b"4")):
        log.append(targets, message)

    assert pages(log) == [(ALL, [b"1"]), (SOME, [b"2"]), (ALL, [b"3", b"4"])]


@KINDS
def test_swapped_twice(log: SubmitLog[Receipt], wakes: Wakes) -> None:
    """What comes after a swap has a page of its own, and wakes the loop again."""
    log.append(ALL, b"1")
    first = pages(log)
    log.append(ALL, b"2")

    assert (first, pages(log)) == ([(ALL, [b"1"])], [(ALL, [b"2"])])
    assert wakes.count == 2
    assert log.swap() == []


@KINDS
@pytest.mark.parametrize("size", [0, 10, 1024])
def test_many_messages(log: SubmitLog[Receipt], size: int) -> None:
    """A page is closed when it is large, also when that is for the number of its messages alone."""
    for _ in range(20_000):
        log.append(ALL, b"x" * size)
    found = pages(log)

    assert len(found) > 1
    assert all(len(messages) * (size + 48) <= PAGE_BYTES + size + 48 for _, messages in found)


@KINDS
def test_calls_between_messages(log: SubmitLog[Receipt]) -> None:
    """They are made in their turn."""
    made: list[str] = []
    log.append(ALL, b"1")
    log.call(lambda: made.append("call"))
    log.append(ALL, b"2")
    for entry in log.swap():
        if isinstance(entry, OpenPage):
            made += [message.decode() for message in entry.messages]
        else:
            entry()

    assert made == ["1", "call", "2"]


def test_pages_only(log: SubmitLog[Receipt]) -> None:
    """Whoever may not make calls gets nothing as long as there are some."""
    log.append(ALL, b"1")
    log.call(lambda: None)

    assert log.swap(pages_only=True) == []
    assert len(log.swap()) == 2

    log.append(ALL, b"2")

    assert len(log.swap(pages_only=True)) == 1


@KINDS
def test_receipt_of_a_message(log: SubmitLog[Receipt]) -> None:
    """It is about that message, and pending until the pool has looked."""
    receipt = log.append(ALL, b"1")

    assert not receipt.done
    assert [result.outcome for result in receipt.results(wait=0).values()] == [Outcome.PENDING] * 2
    assert receipt.stored is None


@KINDS
def test_without_waking(log: SubmitLog[Receipt], wakes: Wakes) -> None:
    """Whoever says so has the loop come later."""
    log.append(ALL, b"1", wake=False)
    before = wakes.count
    log.rouse()
    log.rouse()

    assert (before, wakes.count) == (0, 1)


@KINDS
def test_append_from_inside_of_an_append(log: SubmitLog[Receipt]) -> None:
    """A finalizer may submit wherever it runs; its message has a page of its own, and none is lost."""

    class Finalizer:
        def __del__(self) -> None:
            log.append(ALL, b"from a finalizer")

    class Odd(bytes):
        def __len__(self) -> int:
            holder.clear()
            return super().__len__()

    holder = [Finalizer()]
    first = log.append(ALL, b"first")
    odd = log.append(ALL, Odd(b"odd"))
    last = log.append(ALL, b"last")
    found = pages(log)

    assert sorted(message for _, messages in found for message in messages) == [
        b"first",
        b"from a finalizer",
        b"last",
        b"odd",
    ]
    assert len({(id(receipt._page), receipt._index) for receipt in (first, odd, last)}) == 3


@KINDS
def test_swap_from_inside_of_an_append(log: SubmitLog[Receipt], wakes: Wakes) -> None:
    """It gets nothing: what is there now is not complete. The loop comes for all of it later."""
    swapped: list[object] = []

    class Odd(bytes):
        def __len__(self) -> int:
            swapped.extend(log.swap())
            return super().__len__()

    log.append(ALL, b"before")
    log.append(ALL, Odd(b"odd"))
    log.append(ALL, b"after")

    assert swapped == []
    assert pages(log) == [(ALL, [b"before", b"odd", b"after"])]
    assert wakes.count == 1


@KINDS
@pytest.mark.parametrize("when", ["looked at", "woken"])
def test_interrupted(log: SubmitLog[Receipt], wakes: Wakes, when: str) -> None:
    """What is there when an interrupt comes is fetched, and the next append works."""

    class Odd(bytes):
        def __len__(self) -> int:
            if when == "looked at":
                raise KeyboardInterrupt
            return super().__len__()

    def interrupted() -> None:
        wakes.count += 1
        if wakes.count == 1 and when == "woken":
            raise KeyboardInterrupt

    log._wake = interrupted
    with pytest.raises(KeyboardInterrupt):
        log.append(ALL, Odd(b"odd"))

    assert wakes.count > (when == "woken")

    log.append(ALL, b"next")

    assert pages(log) == [(ALL, [b"odd", b"next"])]


# -- room ------------------------------------------------------------------------------------------


def crowd(log: SubmitLog[Receipt]) -> None:
    while not log.crowded:
        log.append(ALL, b"x" * 100_000)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Begin *work* on a thread; its result, or what it raised, comes in the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def test_crowded(log: SubmitLog[Receipt]) -> None:
    """Whoever appends waits for the loop, and goes on when it came."""
    crowd(log)

    assert LOG_BYTES < sum(page.nbytes for page in log._entries if isinstance(page, OpenPage)) < 2 * LOG_BYTES

    thread, results = in_thread(lambda: log.wait_for_room(ALL, lambda: BOUND))
    eventually(lambda: bool(log._waiting), "it waits")
    log.swap()
    thread.join(BOUND)

    assert results == [None]
    assert (log.held, log._waiting) == (False, set())


def test_blocked(log: SubmitLog[Receipt]) -> None:
    """Whoever submits to a producer that blocks waits for that one, and others do not."""
    log.blocked = frozenset({"a"})

    assert (log.held, log.stuck(ALL), log.stuck(SOME)) == (True, "a", "")

    log.wait_for_room(SOME, lambda: 0.0)
    thread, results = in_thread(lambda: log.wait_for_room(ALL, lambda: BOUND))
    eventually(lambda: bool(log._waiting), "it waits")
    log.blocked = frozenset()
    thread.join(BOUND)

    assert results == [None]
    assert not log.held


def test_waiting_without_a_limit(log: SubmitLog[Receipt]) -> None:
    """A producer without a deadline is waited for as long as that takes."""
    log.blocked = frozenset({"a"})
    thread, results = in_thread(lambda: log.wait_for_room(ALL, lambda: math.inf))
    eventually(lambda: bool(log._waiting or results), "it waits")
    log.blocked = frozenset()
    thread.join(BOUND)

    assert results == [None]


def test_no_room_in_time(log: SubmitLog[Receipt]) -> None:
    """Full names those that block."""
    log.blocked = frozenset({"a", "b", "c"})

    with pytest.raises(Full, match=r"a, b: no room within 0.01 s .*nothing was accepted"):
        log.wait_for_room(ALL, lambda: 0.01)


def test_signals_while_it_waits() -> None:
    """However many come, also in the moment in which its time is over: it ends then."""
    program = """
        import signal
        from producer_pool.delivery.receipts import Receipt
        from producer_pool.delivery.submitlog import SubmitLog
        from producer_pool.model.errors import Full

        log = SubmitLog(lambda: None, Receipt)
        log.blocked = frozenset({"a"})
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        for _ in range(200):
            try:
                log.wait_for_room(("a",), lambda: 0.001)
            except Full:
                continue
            raise AssertionError("there was room")
        signal.setitimer(signal.ITIMER_REAL, 0, 0)
    """

    run_program(program)


def test_jam(log: SubmitLog[Receipt]) -> None:
    """When the spool is behind, everybody waits, whoever the message is for; one for nobody does not."""
    log.jam = "the spool"

    assert (log.held, log.stuck(ALL), log.stuck(SOME), log.stuck(())) == (True, "the spool", "the spool", "")
    with pytest.raises(Full, match=r"^the spool: no room within 0.01 s; nothing was accepted$"):
        log.wait_for_room(SOME, lambda: 0.01)

    log.swap()
    thread, results = in_thread(lambda: log.wait_for_room(ALL, lambda: BOUND))
    eventually(lambda: bool(log._waiting), "it waits")
    log.jam = ""
    thread.join(BOUND)

    assert results == [None]
    assert not log.held


@KINDS
def test_page_for_a_pool_that_stores(log: SubmitLog[Receipt]) -> None:
    """Its messages are not stored yet; in a pool without a spool there is nothing to say."""
    before = log.append(ALL, b"x")
    log.swap()
    log.stores = True
    receipt = log.append(ALL, b"x")

    assert (before.stored, before.wait_stored()) == (None, None)
    assert (receipt.stored, receipt.wait_stored(0.01)) == (False, False)

    receipt._page.decide_stored(True)

    assert (receipt.stored, receipt.wait_stored()) == (True, True)


def test_closed_while_somebody_waits(log: SubmitLog[Receipt]) -> None:
    """They go on, and are refused."""
    log.blocked = frozenset({"a"})

    def submit() -> Receipt:
        log.wait_for_room(ALL, lambda: BOUND)
        return log.append(ALL, b"x")

    thread, results = in_thread(submit)
    eventually(lambda: bool(log._waiting), "it waits")
    log.close(PoolClosed("closed"))
    thread.join(BOUND)

    assert isinstance(results[0], PoolClosed)


def test_waiting_on_the_thread_that_makes_the_room(log: SubmitLog[Receipt]) -> None:
    """It raises at once: it could never end. A crowded log alone is no reason: the thread comes to it."""
    log.insiders.add(threading.get_ident())
    crowd(log)
    log.wait_for_room(ALL, lambda: BOUND)
    log.blocked = frozenset({"a"})

    with pytest.raises(WrongThread, match="use submit_nowait"):
        log.wait_for_room(ALL, lambda: BOUND)
    with pytest.raises(WrongThread):
        log.check_may_wait()
    with pytest.raises(WrongThread):
        log.append(ALL, b"x").results()


# -- the end ---------------------------------------------------------------------------------------


@KINDS
def test_closed(log: SubmitLog[Receipt]) -> None:
    """Nothing is taken any more; what lies in it can be swapped out."""
    log.append(ALL, b"1")
    log.close(PoolClosed("the pool is closed"))
    for refused in (lambda: log.append(ALL, b"2"), lambda: log.call(lambda: None), log.check_open):
        with pytest.raises(PoolClosed, match="the pool is closed"):
            refused()

    assert pages(log) == [(ALL, [b"1"])]


@KINDS
def test_refused_often(log: SubmitLog[Receipt]) -> None:
    """The error's traceback does not grow with each time, and holds nothing of who was refused."""
    log.close(PoolClosed("closed"))
    depths = []

    class Held:
        pass

    def refused() -> Any:
        held = Held()
        try:
            log.append(ALL, b"x")
        except PoolClosed as error:
            depths.append(len(traceback.extract_tb(error.__traceback__)))
        return weakref.ref(held)

    references = [refused() for _ in range(5)]
    gc.collect()

    assert len(set(depths)) == 1
    assert sum(reference() is not None for reference in references) <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked(log: SubmitLog[Receipt]) -> None:
    """In the child everything is refused, and nothing waits; the parent goes on."""
    log.append(ALL, b"before")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        says = []
        for call in (lambda: log.append(ALL, b"x"), log.check_may_wait, lambda: log.call(lambda: None)):
            try:
                call()
            except ForkedPool:
                says.append("refused")
        os.write(writing, ",".join(says).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    log.append(ALL, b"after")

    assert said == "refused,refused,refused"
    assert pages(log) == [(ALL, [b"before", b"after"])]


# -- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def fast_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switching")
def test_many_threads(log: SubmitLog[Receipt]) -> None:
    """Nothing is lost or doubled, each thread's order is kept, and each receipt is about its own message."""
    receipts: dict[bytes, Receipt] = {}
    swapped: list[OpenPage] = []
    done = threading.Event()

    def append(name: str) -> None:
        for number in range(500):
            message = f"{name} {number}".encode()
            receipts[message] = log.append(ALL if number % 7 else SOME, message)

    def swap() -> None:
        while not done.is_set() or not log.empty:
            swapped.extend(entry for entry in log.swap() if isinstance(entry, OpenPage))

    swapper = threading.Thread(target=swap)
    swapper.start()
    threads = [threading.Thread(target=append, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    swapper.join()
    messages = [message for page in swapped for message in page.messages]

    assert sorted(messages) == sorted(receipts)
    for number in range(8):
        own = [message for message in messages if message.startswith(b"t%d " % number)]

        assert own == sorted(own, key=lambda message: int(message.split()[1]))

    for message, receipt in receipts.items():
        page = receipt._page

        assert page.messages[receipt._index] == message

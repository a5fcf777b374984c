"""Borrowing the turn of an event loop: when, what a step may do, and signals in the middle of one."""

import asyncio
import contextvars
import gc
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from producer_pool.lending import LendingLoop, Turn
from support.processes import run_program
from support.waiting import BOUND, eventually


class Lender:
    """A lending loop on a thread of its own."""

    def __init__(self) -> None:
        self.insiders: set[int] = set()
        self.turn = Turn(self.insiders)
        self.loop = LendingLoop(self.turn)
        self.thread = threading.Thread(target=self._run, name="lender")

    def _run(self) -> None:
        self.turn.lock.acquire()
        try:
            self.loop.run_forever()
        finally:
            self.turn.lock.release()

    def borrow(self, step: Callable[[], object]) -> None:
        """Do *step* as soon as the loop sleeps."""

        def done() -> bool:
            step()
            return True

        eventually(lambda: self.turn.borrow(done), "the loop sleeps")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the loop from sleeping."""
        is_busy, enough = threading.Event(), threading.Event()

        def work() -> None:
            is_busy.set()
            assert enough.wait(BOUND)

        self.loop.call_soon_threadsafe(work)
        assert is_busy.wait(BOUND)
        try:
            yield
        finally:
            enough.set()


@contextmanager
def lending(lender: Lender) -> Iterator[Lender]:
    lender.thread.start()
    try:
        yield lender
    finally:
        lender.loop.call_soon_threadsafe(lender.loop.stop)
        lender.thread.join(BOUND)
        lender.loop.close()


@pytest.fixture
def lender() -> Iterator[Lender]:
    with lending(Lender()) as lender:
        yield lender


def nothing() -> None:
    """Be a step, or a callback, that does nothing."""


def elsewhere(call: Callable[[], object]) -> None:
    """Make *call* on another thread, to its end."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive()


# -- who has the turn ------------------------------------------------------------------------------


def test_borrow_while_the_loop_sleeps(lender: Lender) -> None:
    """The step is done on the borrower's thread, which does the loop's work as long as it takes."""
    seen: list[tuple[int, set[int]]] = []

    lender.borrow(lambda: seen.append((threading.get_ident(), set(lender.insiders))))

    assert seen == [(threading.get_ident(), {threading.get_ident()})]
    assert not lender.insiders


def test_borrow_while_the_loop_works(lender: Lender) -> None:
    """It is refused at once, and the step is not done; later it works again."""
    done: list[int] = []

    def step() -> bool:
        done.append(1)
        return True

    with lender.busy():
        assert lender.turn.borrow(step) is None

    assert not done
    lender.borrow(step)
    assert done == [1]


def test_two_threads_borrow(lender: Lender) -> None:
    """The second is refused, as if the loop did not sleep; and the loop itself waits for the first."""
    refused: list[bool] = []
    ran = threading.Event()

    def step() -> None:
        lender.loop.call_soon_threadsafe(ran.set)
        elsewhere(lambda: refused.append(lender.turn.borrow(lambda: 1) is None))
        assert not ran.is_set()

    lender.borrow(step)

    assert refused == [True]
    assert ran.wait(BOUND)


def test_step_raises(lender: Lender) -> None:
    """It comes out at the borrower, and the turn is given back."""

    def step() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        lender.borrow(step)

    assert not lender.insiders
    lender.borrow(nothing)


# -- what a step may do ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["a callback", "a timer", "a task", "a future", "nothing"])
def test_step_schedules(lender: Lender, how: str) -> None:
    """What the loop cannot notice in its sleep is noted, whatever it is that was scheduled."""
    loop = lender.loop
    future = loop.create_future()
    future.add_done_callback(lambda _: None)

    async def work() -> None:
        pass

    steps: dict[str, Callable[[], object]] = {
        "a callback": lambda: loop.call_soon(nothing),
        "a timer": lambda: loop.call_later(0.001, nothing),
        "a task": lambda: loop.create_task(work()),
        "a future": lambda: future.set_result(None),
        "nothing": nothing,
    }
    noted: list[bool] = []

    def step() -> None:
        steps[how]()
        noted.append(lender.turn.touched)

    lender.borrow(step)

    assert noted == [how != "nothing"]


def test_step_asks_for_the_running_loop(lender: Lender) -> None:
    """It is the one that lends, as in a callback, and no task runs; then the thread's own is back."""
    found: list[object] = []

    def step() -> None:
        found.extend([asyncio.get_running_loop(), asyncio.current_task()])

    async def main() -> None:
        lender.borrow(step)

        assert asyncio.get_running_loop() is not lender.loop
        assert asyncio.current_task() is not None

    lender.borrow(step)
    asyncio.run(main())

    assert found == [lender.loop, None] * 2
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_timer_set_by_a_step_keeps_nothing_of_the_borrower(lender: Lender) -> None:
    """What a thread has in its context variables can go with it, however long the timer runs."""

    class Request:
        pass

    variable: contextvars.ContextVar[Request] = contextvars.ContextVar("variable")
    requests: list[weakref.ref[Request]] = []
    timers: list[asyncio.TimerHandle] = []

    def serve() -> None:
        request = Request()
        variable.set(request)
        requests.append(weakref.ref(request))
        lender.borrow(lambda: timers.append(lender.loop.call_later(3600, nothing)))

    elsewhere(serve)
    gc.collect()

    assert requests[0]() is None
    assert timers


class Gate:
    """A lock that tells when its owner wants it back."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True) -> bool:
        if blocking and self._lock.locked():
            self.wanted.set()
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._lock.release()


def test_step_changes_who_reads_what_has_just_become_readable() -> None:
    """The loop, which has woken for the reader that is gone, does not take the new one for it."""
    lender = Lender()
    gate = Gate()
    lender.turn.lock = gate  # type: ignore[assignment]
    a, b = socket.socketpair()
    read: list[str] = []
    done = threading.Event()

    def new() -> None:
        read.append("new")
        lender.loop.remove_reader(a)
        done.set()

    def step() -> None:
        gate.wanted.clear()
        b.send(b"x")
        assert gate.wanted.wait(BOUND)
        lender.loop.remove_reader(a)
        lender.loop.add_reader(a, new)

    with a, b, lending(lender):
        lender.borrow(lambda: lender.loop.add_reader(a, read.append, "old"))
        lender.borrow(step)

        assert done.wait(BOUND)
        assert read == ["new"]


# -- signals ---------------------------------------------------------------------------------------


@contextmanager
def handled(handler: Callable[[int, object], object], *numbers: int) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        left = [signal.signal(number, original) for number, original in zip(numbers, before, strict=True)]
        assert left == [handler] * len(numbers)


def test_signal_in_a_step(lender: Lender) -> None:
    """Its handler is called when the step is over, and what it raises comes out of borrow()."""
    order: list[str] = []

    def handler(number: int, frame: object) -> None:
        order.append("handled")
        assert not lender.insiders
        raise LookupError

    def step() -> None:
        signal.raise_signal(signal.SIGUSR1)
        order.append("done")

    with handled(handler, signal.SIGUSR1), pytest.raises(LookupError):
        lender.borrow(step)

    assert order == ["done", "handled"]
    lender.borrow(nothing)


def test_two_signals_in_a_step(lender: Lender) -> None:
    """Both are handled, though the first handler raises."""
    came: list[int] = []

    def handler(number: int, frame: object) -> None:
        came.append(number)
        raise LookupError

    def step() -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)

    with handled(handler, signal.SIGUSR1, signal.SIGUSR2), pytest.raises(LookupError):
        lender.borrow(step)

    assert came == [signal.SIGUSR1, signal.SIGUSR2]


def test_signal_in_a_step_that_a_loop_of_the_program_handles(lender: Lender) -> None:
    """That loop's handler is called once: a second signal often means: stop at once."""
    came: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, came.append, "first")
        lender.borrow(lambda: signal.raise_signal(signal.SIGUSR1))
        last = asyncio.Event()
        # Its bytes come through the same pipe, behind those of the first.
        loop.add_signal_handler(signal.SIGUSR2, last.set)
        signal.raise_signal(signal.SIGUSR2)
        await last.wait()

    asyncio.run(main())

    assert came == ["first"]


def test_main_thread_is_not_the_one_that_threading_knows() -> None:
    """Where another thread was the first to import it, as in a program in C, borrowing works, too."""
    run_program(
        """
        import _thread, sys, time

        for name in [name for name in sys.modules if name.partition(".")[0] == "threading"]:
            del sys.modules[name]
        over, ended = [], []

        def work():
            try:
                use()
            finally:
                over.append(True)

        def use():
            import threading
            assert threading.main_thread() is threading.current_thread()
            from producer_pool import ProducerPool
            from producer_pool.builtin.null import NullClient
            with ProducerPool() as pool:
                pool.add_producer("a", NullClient())
                for _ in range(100):
                    assert pool.forward_to("a", "hello", wait=10).ok
            ended.append(True)

        _thread.start_new_thread(work, ())
        while not over:
            time.sleep(0.01)
        import os
        os._exit(0 if ended else 1)
        """
    )

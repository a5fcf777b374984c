"""Which code an interrupt is raised out of at once, and which it waits for."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from producer_pool import AsyncProducerPool, StorageError, deferral
from producer_pool.deferral import Deferral
from support.waiting import BOUND, eventually

pytestmark = pytest.mark.usefixtures("python_handles_interrupts", "unreminded")

SOON = deferral._AGAIN


@pytest.fixture
def reminded(unreminded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reminders come as they do in programs."""
    monkeypatch.setattr(deferral, "_AGAIN", SOON)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that the test runs itself."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def of_module(name: str) -> Callable[..., None]:
    """Return a function of a module of that name, which makes a call and then notes that it came so far."""
    there: dict[str, object] = {"__name__": name}
    exec("def work(call, passed):\n    call()\n    passed.append('worked on')", there)
    made = there["work"]
    assert callable(made)
    return made


def outcome(loop: asyncio.AbstractEventLoop, step: Callable[[], object]) -> str:
    """Defer the interrupts of *loop*, take *step* in a task of the program, and say how that went."""
    passed: list[str] = []

    async def work() -> None:
        begun = Deferral(loop)
        try:
            step()
            passed.append("through")
            await asyncio.sleep(0)
        finally:
            begun.end()

    try:
        loop.run_until_complete(work())
    except KeyboardInterrupt:
        passed.append("interrupted")
    return ", ".join(passed)


def cancelled_by_ctrl_c() -> None:
    """Have asyncio run a main task that is told of an interrupt, as asyncio says, by its cancellation."""
    cancelled = []

    async def work() -> None:
        async with AsyncProducerPool() as pool:
            assert await pool.drain()
            try:
                press_ctrl_c()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work())
    assert cancelled


def test_code_of_the_program(loop: asyncio.AbstractEventLoop) -> None:
    """It is interrupted where it is."""
    assert outcome(loop, press_ctrl_c) == "interrupted"


@pytest.mark.parametrize("name", ["producer_pool.delivery.link", "producer_pool_tcp.client"])
def test_code_of_the_pool(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """It goes on, and so does the program until it waits: the loop is interrupted."""
    worked: list[str] = []

    assert outcome(loop, lambda: of_module(name)(press_ctrl_c, worked)) == "through, interrupted"
    assert worked


def test_code_that_the_pool_calls(loop: asyncio.AbstractEventLoop) -> None:
    """A stage, say, is in the middle of the pool's work, too."""
    worked: list[str] = []
    stage = of_module("program")

    assert outcome(loop, lambda: of_module("producer_pool")(lambda: stage(press_ctrl_c, worked), worked))
    assert worked == ["worked on", "worked on"]


def test_callback(loop: asyncio.AbstractEventLoop) -> None:
    """Whosever it is: the loop has taken it from its queue, and would not call it again."""
    worked: list[str] = []

    assert outcome(loop, lambda: loop.call_soon(of_module("program"), press_ctrl_c, worked)) == (
        "through, interrupted"
    )
    assert worked


def test_second_interrupt(loop: asyncio.AbstractEventLoop) -> None:
    """Who insists is heard at once, and only once: something may hold up the loop."""
    worked: list[str] = []

    def press_twice() -> None:
        press_ctrl_c()
        worked.append("first")
        press_ctrl_c()

    assert outcome(loop, lambda: of_module("producer_pool")(press_twice, worked)) == "interrupted"
    assert worked == ["first"]
    loop.run_until_complete(asyncio.sleep(0))


def test_end_raises_what_is_left(loop: asyncio.AbstractEventLoop) -> None:
    """The loop might stop before it came to that."""
    worked: list[str] = []

    async def work() -> None:
        begun = Deferral(loop)
        of_module("producer_pool")(press_ctrl_c, worked)
        with pytest.raises(KeyboardInterrupt):
            begun.end()
        begun.end()

    loop.run_until_complete(work())
    assert worked


@pytest.mark.usefixtures("reminded")
def test_run_that_is_over_before(loop: asyncio.AbstractEventLoop) -> None:
    """One that came in the last turn of a run is raised out of what the program does next, and once."""

    async def work() -> None:
        loop.call_soon(of_module("producer_pool"), press_ctrl_c, worked)
        begun.append(Deferral(loop))

    def run_and_wait() -> None:
        loop.run_until_complete(work())
        threading.Event().wait(BOUND)

    worked: list[str] = []
    begun: list[Deferral] = []
    with pytest.raises(KeyboardInterrupt):
        run_and_wait()
    loop.run_until_complete(asyncio.sleep(0))
    begun[0].end()
    assert worked


@pytest.mark.usefixtures("reminded")
def test_program_that_does_not_wait(loop: asyncio.AbstractEventLoop) -> None:
    """It has called us, and goes on without a turn for the loop: it is interrupted nevertheless."""
    worked: list[str] = []

    def work() -> None:
        of_module("producer_pool")(press_ctrl_c, worked)
        threading.Event().wait(BOUND)

    assert outcome(loop, work) == "interrupted"
    assert worked


@pytest.mark.usefixtures("reminded")
def test_reminder_in_the_middle_of_our_work(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not insist: that goes on, and only then the program is interrupted, or the loop."""
    worked: list[str] = []
    signals: list[bool] = []
    is_reminder = deferral._PENDING.is_reminder

    def noted() -> bool:
        signals.append(is_reminder())
        return signals[-1]

    def work() -> None:
        press_ctrl_c()
        eventually(lambda: sum(signals) >= 3, "three reminders")

    monkeypatch.setattr(deferral._PENDING, "is_reminder", noted)

    assert outcome(loop, lambda: of_module("producer_pool")(work, worked)).endswith("interrupted")
    assert worked


@pytest.mark.usefixtures("reminded")
def test_reminder_is_for_nobody_else(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that the program puts in place meanwhile is called for what comes then, and nothing else."""
    called: list[int] = []
    over = threading.Event()
    remind = deferral._PENDING._remind

    def noted(coming: asyncio.Handle) -> None:
        remind(coming)
        over.set()

    def work() -> None:
        press_ctrl_c()
        signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
        assert over.wait(BOUND)

    monkeypatch.setattr(deferral._PENDING, "_remind", noted)

    assert outcome(loop, lambda: of_module("producer_pool")(work, [])) == "through, interrupted"
    assert not called


def test_run_beside_a_loop_with_a_pool(loop: asyncio.AbstractEventLoop) -> None:
    """A pool is open on a loop of the program's own: asyncio.run() cancels its main task as ever."""

    async def begin() -> Deferral:
        return Deferral(loop)

    other = loop.run_until_complete(begin())
    cancelled_by_ctrl_c()
    other.end()


def test_run_after_a_pool_that_was_forgotten() -> None:
    """Nor does one that nobody closed change that, gone with its loop or not."""

    async def begin() -> None:
        pool = AsyncProducerPool()
        assert await pool.drain()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()

    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    cancelled_by_ctrl_c()


def test_handler_of_the_program() -> None:
    """It stays, and is not restored by us: what it raises is raised where it is."""

    def own(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    async def work() -> None:
        signal.signal(signal.SIGINT, own)
        async with AsyncProducerPool() as pool:
            assert await pool.drain()
            assert signal.getsignal(signal.SIGINT) is own

    asyncio.run(work())
    assert signal.getsignal(signal.SIGINT) is own


def test_handler_that_comes_later(loop: asyncio.AbstractEventLoop) -> None:
    """A program that wants one of its own while it has a pool keeps it."""
    begun = Deferral(loop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begun.end()

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_asyncio_run() -> None:
    """Its handler stays: the main task is cancelled."""
    cancelled_by_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_several_pools(loop: asyncio.AbstractEventLoop) -> None:
    """Python's own handler is back when the last one has ended whose loop is not closed."""
    other = asyncio.new_event_loop()
    deferrals = [Deferral(loop), Deferral(loop), Deferral(other)]
    other.close()
    for one in deferrals[:2]:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        one.end()
        one.end()

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_of_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    """What a program does between two runs is interrupted as ever."""
    begun = Deferral(loop)
    with pytest.raises(KeyboardInterrupt):
        of_module("producer_pool")(press_ctrl_c, [])
    begun.end()


def test_another_thread(loop: asyncio.AbstractEventLoop) -> None:
    """No interrupt is raised there."""

    def work() -> None:
        begun = Deferral(loop)
        handlers.append(signal.getsignal(signal.SIGINT))
        begun.end()

    handlers: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert handlers == [signal.default_int_handler]


def test_pool_that_cannot_begin(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    """Its spool cannot be opened: it leaves nothing behind."""
    (tmp_path / "file").touch()

    async def work() -> None:
        with pytest.raises(StorageError):
            await AsyncProducerPool(spool=tmp_path / "file").drain()

    loop.run_until_complete(work())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

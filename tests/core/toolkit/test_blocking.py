"""Objects that block, made clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from producer_pool.contract.ports import Client
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError, UsageError
from producer_pool.toolkit.blocking import MOST_HANGING, BlockingClient
from support.streams import BOUND, until
from support.waiting import eventually


class Library:
    """A vendor's object: it blocks, notes its calls and threads, and can hang or fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.sent: list[bytes] = []
        self.release = threading.Event()
        self.hang: set[str] = set()
        self.fail: dict[str | bytes, BaseException] = {}

    def _note(self, call: str) -> None:
        self.threads.add(threading.current_thread())
        hangs = call in self.hang
        self.calls.append(call)  # Who sees it may change what hangs: for this call that is decided.
        if hangs:
            self.release.wait()
        if call in self.fail:
            raise self.fail[call]

    def connect(self) -> None:
        self._note("connect")

    def send(self, message: bytes) -> None:
        self._note("send")
        if message in self.fail:
            raise self.fail[message]
        self.sent.append(message)

    def close(self) -> None:
        self._note("close")


@pytest.fixture
def library() -> Iterator[Library]:
    made = Library()
    yield made
    made.release.set()
    eventually(lambda: not _threads(), "its threads end")  # The next test counts them.


def _threads() -> int:
    return sum(thread.name.startswith("blocking client") for thread in threading.enumerate())


async def test_calls_are_made_on_one_thread(library: Library) -> None:
    """Not on the loop's, and always on the same one, in order."""
    async with BlockingClient(library, protocol_name="vendor", address="vendor://here") as client:
        await client.send(b"one")
        await client.send_batch(Batch.of([b"two", b"three", b"four"]), 1)

    assert library.sent == [b"one", b"three", b"four"]
    assert (library.calls[0], library.calls[-1]) == ("connect", "close")
    assert len(library.threads) == 1
    assert threading.current_thread() not in library.threads
    assert isinstance(client, Client)
    assert (client.protocol_name, client.address) == ("vendor", "vendor://here")


async def test_send_is_enough() -> None:
    """An object that has nothing to connect or to close needs no such methods."""
    sent: list[bytes] = []

    class Plain:
        def send(self, message: bytes) -> None:
            sent.append(message)

    async with BlockingClient(Plain()) as client:
        await client.send(b"one")
    await client.aclose()

    assert sent == [b"one"]
    assert client.address == "Plain"


async def test_errors_of_the_library(library: Library) -> None:
    """They become ours, with the cause; ours stay as they are."""
    library.fail = {b"bad": OSError("wire cut"), b"no": Rejected("never"), b"exit": SystemExit(3)}
    async with BlockingClient(library, address="vendor://here") as client:
        with pytest.raises(SendError, match="vendor://here: OSError: wire cut") as caught:
            await client.send(b"bad")
        with pytest.raises(Rejected, match="never"):
            await client.send(b"no")
        with pytest.raises(SendError, match=r"^vendor://here: SystemExit: 3$"):
            await client.send(b"exit")
        await client.send(b"good")

    assert isinstance(caught.value.__cause__, OSError)
    assert library.sent == [b"good"]


def test_objects_that_cannot_be_wrapped() -> None:
    """Each error says what is wrong; an async send() would only seem to be called."""

    class Async:
        async def send(self, message: bytes) -> None: ...

    wrap: Any = BlockingClient
    with pytest.raises(UsageError, match=r"Async\.send\(\) is async already; derive Async from Client"):
        wrap(Async())
    with pytest.raises(UsageError, match=r"Library is a class; pass an instance: Library\(\.\.\.\)"):
        wrap(Library)
    with pytest.raises(UsageError, match=r"object has no send\(message\)"):
        wrap(object())


async def test_connect_that_fails(library: Library) -> None:
    """Nothing can have arrived."""
    library.fail = {"connect": RuntimeError("not today")}
    client = BlockingClient(library)

    with pytest.raises(ConnectError, match="RuntimeError: not today"):
        await client.connect()
    await client.aclose()


async def test_batch_that_fails_in_the_middle(library: Library) -> None:
    """The error says at which message, and nothing after it was tried."""
    library.fail = {b"bad": OSError("wire cut")}
    async with BlockingClient(library) as client:
        with pytest.raises(SendError) as caught:
            await client.send_batch(Batch.of([b"skipped", b"one", b"bad", b"two"]), 1)

    assert caught.value.index == 2
    assert library.sent == [b"one"]


async def test_call_that_hangs(library: Library) -> None:
    """The caller gets its error in time; a new connection works on another thread."""
    client = BlockingClient(library)
    await client.connect()
    library.hang = {"send"}
    client.timeout = 0.05
    with pytest.raises(SendError, match=r"the call did not return within 0\.05 s"):
        await client.send(b"stuck")
    # Its thread may be late: it has to be called before the others need not hang.
    await until(lambda: "send" in library.calls)
    library.hang = set()
    client.timeout = BOUND
    with pytest.raises(ConnectError, match="not connected"):
        await client.send(b"too early")
    await client.aclose()
    await client.connect()
    await client.send(b"through")
    await client.aclose()

    assert library.sent == [b"through"]
    assert library.calls.count("close") == 2
    assert len(library.threads) >= 2


async def test_batch_that_is_given_up(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the caller has its error, the rest of the batch is not sent behind its back."""
    client = BlockingClient(library)
    await client.connect()
    library.hang = {"send"}
    sending = asyncio.ensure_future(client.send_batch(Batch.of([b"stuck", b"never"])))
    await until(lambda: "send" in library.calls)
    loop = asyncio.get_running_loop()
    later = loop.time() + client.timeout
    with monkeypatch.context() as over:
        over.setattr(loop, "time", lambda: later)
        with pytest.raises(SendError) as caught:
            await sending
    library.release.set()
    await until(lambda: _threads() == 0)
    await client.aclose()

    assert caught.value.index == 0
    assert library.sent == [b"stuck"]


async def test_cancelled_send(library: Library) -> None:
    """It may have arrived; the thread that makes it is left behind, and the client can connect again."""
    client = BlockingClient(library)
    await client.connect()
    library.hang = {"send"}
    sending = asyncio.ensure_future(client.send(b"stuck"))
    await until(lambda: "send" in library.calls)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    library.hang = set()
    await client.connect()
    await client.send(b"through")
    await client.aclose()

    assert library.sent == [b"through"]


async def test_library_that_always_hangs(library: Library) -> None:
    """Threads are not started without end: then connect() says so, until a call returns."""
    client = BlockingClient(library, timeout=0.02)
    library.hang = {"connect", "send", "close"}
    said = ""
    for _ in range(MOST_HANGING * 3):
        with pytest.raises(DeliveryError) as caught:
            await client.connect()
        said = str(caught.value)

    assert "calls hang in Library; it is tried again when one returns" in said
    assert _threads() <= MOST_HANGING + 2
    library.hang = set()
    library.release.set()
    await until(lambda: _threads() == 0)
    client.timeout = BOUND
    await client.connect()
    await client.aclose()


async def test_close_that_hangs(library: Library) -> None:
    """It has its time, and no more; nothing is raised."""
    library.hang = {"close"}
    client = BlockingClient(library)
    await client.connect()
    client.timeout = 0.05
    await client.aclose()
    await client.aclose()


def test_interpreter_ends_while_a_call_hangs() -> None:
    """A call that never returns does not keep the program from ending."""
    code = """
import asyncio, threading
from producer_pool.plugin import BlockingClient, SendError
class Hangs:
    def send(self, message):
        threading.Event().wait()
async def main():
    client = BlockingClient(Hangs())
    await client.connect()
    client.timeout = 0.05
    try:
        await client.send(b"x")
    except SendError:
        print("gave up")
    await client.aclose()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stdout == "gave up\n"


def test_loop_that_is_gone(library: Library) -> None:
    """A call that returns after the loop was closed tells nobody, and its thread ends."""

    async def leave() -> None:
        client = BlockingClient(library)
        await client.connect()
        library.hang = {"send"}
        sending = asyncio.ensure_future(client.send(b"stuck"))
        await until(lambda: "send" in library.calls)
        sending.cancel()

    asyncio.run(leave())
    library.release.set()
    for thread in library.threads:
        thread.join(BOUND)

    assert not any(thread.is_alive() for thread in library.threads)

"""``stdout:`` writes whole batches, and a pipe that nobody reads stops nobody."""

import asyncio
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.builtin.memory import MemoryClient
from producer_pool.builtin.stdout import StdoutClient
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, InvalidEndpoint, Rejected, SendError
from producer_pool.model.framing import LENGTH4, LINES, NUL
from producer_pool.model.outcomes import Outcome
from support.waiting import BOUND, eventually

BIG = b"x" * 1_000_000


class Pipe:
    """A pipe of 64 KiB at the most; its read end is the consumer's."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 65536)

    def read(self, size: int) -> bytes:
        """Return exactly *size* bytes, or less at the end."""
        data = bytearray()
        while len(data) < size and (chunk := os.read(self.reader, size - len(data))):
            data += chunk
        return bytes(data)

    @property
    def unread(self) -> int:
        """Bytes that were written, and not read."""
        (size,) = struct.unpack("i", fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4)))
        return int(size)

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    eventually(lambda: not _threads(), "the threads of others end")
    pipe = Pipe()
    yield pipe
    pipe.close_reader()
    try:
        eventually(lambda: not _threads(), "a closed client leaves no thread behind")
    finally:
        os.close(pipe.writer)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "stdout" in thread.name]


async def test_messages_as_lines(pipe: Pipe) -> None:
    """Each message is a line; a batch goes out from the message asked for."""
    async with StdoutClient(descriptor=pipe.writer) as client:
        await client.send(b"one")
        await client.send_batch(Batch.of([b"two", b"three", b"four"]), 1)

    assert pipe.read(15) == b"one\nthree\nfour\n"


async def test_batch_in_the_framing_of_the_sink(pipe: Pipe) -> None:
    """Its bytes go out as they came, in one write."""
    async with StdoutClient(NUL, descriptor=pipe.writer) as client:
        await client.send_batch(Batch.from_wire(b"a\0b\0", NUL))
    assert os.read(pipe.reader, 100) == b"a\0b\0"


async def test_message_that_is_no_line(pipe: Pipe) -> None:
    """It is rejected, and nothing of it is written; another framing carries it."""
    async with StdoutClient(LINES, descriptor=pipe.writer) as client:
        with pytest.raises(Rejected, match="framing=lines cannot carry"):
            await client.send(b"one\ntwo")
        assert set(client.misfits(Batch.of([b"a", b"b\nc", b"d"]))) == {1}
    async with StdoutClient(LENGTH4, descriptor=pipe.writer) as client:
        await client.send(b"a\nb")

    assert pipe.read(7) == b"\0\0\0\3a\nb"


async def test_pipe_that_nobody_reads(pipe: Pipe) -> None:
    """A send ends with its timeout; the batch that was begun is written to its end when somebody reads."""
    client = StdoutClient(descriptor=pipe.writer)
    client.timeout = 0.05
    # The loop does not see that the time is over before the thread has begun.
    asyncio.get_running_loop().call_soon(eventually, lambda: pipe.unread, "the batch is begun")
    with pytest.raises(SendError, match=r"stdout: nobody read it within 50ms; it may still be read"):
        await client.send(BIG)
    await client.aclose()
    with pytest.raises(ConnectError, match="stdout: nobody has read the last batch yet"):
        await client.connect()
    assert len(_threads()) == 1
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, pipe.read, len(BIG) + 1) == BIG + b"\n"
    client.timeout = BOUND
    await client.connect()
    await client.send(b"next")
    await client.aclose()

    assert pipe.read(5) == b"next\n"


async def test_cancelled_before_its_turn(pipe: Pipe) -> None:
    """A batch that was given up while another one was being written is never written."""
    client = StdoutClient(descriptor=pipe.writer)
    first = asyncio.ensure_future(client.send(BIG))
    assert await asyncio.get_running_loop().run_in_executor(None, pipe.read, 1) == b"x"
    second = asyncio.ensure_future(client.send(b"second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.ensure_future(client.send(b"third"))
    rest = await asyncio.get_running_loop().run_in_executor(None, pipe.read, len(BIG) + 6)
    await asyncio.gather(first, third)
    await client.aclose()

    assert rest == BIG[1:] + b"\nthird\n"


async def test_two_producers_with_one_output(pipe: Pipe) -> None:
    """Their batches take turns; frames never mix."""
    clients = [StdoutClient(descriptor=pipe.writer) for _ in range(2)]
    batches = [Batch.of([letter * 50_000] * 3) for letter in (b"a", b"b")]
    sending = asyncio.gather(
        *[client.send_batch(batch) for client, batch in zip(clients, batches, strict=True)]
    )
    data = await asyncio.get_running_loop().run_in_executor(None, pipe.read, 6 * 50_001)
    await sending
    for client in clients:
        await client.aclose()

    assert sorted(data.splitlines()) == [b"a" * 50_000] * 3 + [b"b" * 50_000] * 3


async def test_reader_that_goes_away(pipe: Pipe) -> None:
    """What was written whole is counted; after that nobody can connect, and the error says why."""
    client = StdoutClient(descriptor=pipe.writer)
    batch = Batch.of([b"x" * 29_999] * 10)
    sending = asyncio.ensure_future(client.send_batch(batch, 2))
    await asyncio.get_running_loop().run_in_executor(None, pipe.read, 1)
    pipe.close_reader()
    with pytest.raises(SendError, match="stdout: Broken pipe") as caught:
        await sending

    assert caught.value.index is not None
    assert 4 <= caught.value.index <= 5, (
        "two frames of 30,000 bytes fit into 64 KiB; the kernel may take more"
    )
    await client.aclose()
    with pytest.raises(ConnectError, match="stdout: nobody reads it any more"):
        await client.connect()


async def test_descriptor_that_somebody_made_non_blocking(pipe: Pipe) -> None:
    """It is waited for all the same."""
    os.set_blocking(pipe.writer, False)
    async with StdoutClient(descriptor=pipe.writer) as client:
        sending = asyncio.ensure_future(client.send(BIG))
        data = await asyncio.get_running_loop().run_in_executor(None, pipe.read, len(BIG) + 1)
        await sending

    assert data == BIG + b"\n"


async def test_closed_descriptor() -> None:
    """Nobody can connect."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)

    with pytest.raises(ConnectError, match="the standard output is closed"):
        await StdoutClient(descriptor=writer).connect()


async def test_process_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so."""
    monkeypatch.setattr(sys, "__stdout__", None)

    with pytest.raises(ConnectError, match="this process has no standard output"):
        await StdoutClient().connect()


async def test_full_pipe_and_another_producer(pipe: Pipe, request: pytest.FixtureRequest) -> None:
    """The other one is not held up, and each result says what happened to its own consumer."""
    client = StdoutClient(descriptor=pipe.writer)
    client.timeout = BOUND
    async with AsyncProducerPool() as pool:
        await pool.add_producer("stuck", client)
        await pool.add_producer("fine", f"memory:{request.node.name}")
        receipt = await pool.submit(BIG)
        await pool.forward_to("fine", "hello")
        assert not receipt.done
        pipe.close_reader()
        results = await receipt.results(BOUND)

    assert results["stuck"].outcome is Outcome.FAILED
    assert results["fine"].ok
    reader = MemoryClient.named(request.node.name)
    assert reader.take()[-1] == b"hello"


@pytest.mark.parametrize("url", ["stdout:x", "stdout://", "stdout:/x"])
def test_url_with_something_behind_it(url: str) -> None:
    """The error says that nothing stands there."""
    with pytest.raises(InvalidEndpoint, match="nothing stands behind stdout: but options"):
        ClientFactory.create(url)


PROGRAM = """
import sys
from producer_pool import ProducerPool
with ProducerPool() as pool:
    pool.add_producer("out", f"stdout:?timeout={sys.argv[3]}")
    print("printed", flush=True)
    result = pool.forward_to("out", sys.argv[1] * int(sys.argv[2]))
    print(result.outcome.value, file=sys.stderr)
"""


def test_real_standard_output() -> None:
    """What the pool writes stands after what was printed and flushed before."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "hello", "1", "20s"], capture_output=True, timeout=30, check=True
    )

    assert done.stdout == b"printed\nhello\n"
    assert done.stderr == b"delivered\n"


def test_program_whose_output_nobody_reads() -> None:
    """It ends by itself."""
    command = [sys.executable, "-c", PROGRAM, "hello", "1000000", "200ms"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.wait(30) == 0

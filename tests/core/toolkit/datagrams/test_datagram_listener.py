"""The datagram listener: what it passes on, how it is batched, and what it counts instead."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidOption, ListenError
from producer_pool.toolkit.datagrams import listener
from producer_pool.toolkit.datagrams.listener import DatagramListener, DatagramListenerOptions
from producer_pool.toolkit.datagrams.receiving import READS, OneByOne
from producer_pool.toolkit.datagrams.sockets import Ancillary
from producer_pool.toolkit.datagrams.udp import UdpBinding, UdpListenerOptions
from support.datagrams import Receiving, UnixBinding
from support.descriptors import OUT_OF_FILES, out_of_files
from support.listening import lines_of
from support.streams import FakeIntake, until


@pytest.fixture(autouse=True, params=["as here", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read: that of this platform, and that which works everywhere."""
    if request.param == "one by one":
        monkeypatch.setattr(listener, "receiver", OneByOne)


@pytest.fixture
async def receiving() -> AsyncIterator[Receiving]:
    async with Receiving() as made:
        yield made


# -- messages --------------------------------------------------------------------------------------


async def test_datagram_is_a_message(receiving: Receiving) -> None:
    """Each as it was, empty ones, NUL bytes, bytes that are no text and the longest one included."""
    messages = [b"one", b"", b"\0\xff\xfe", b"two\nlines", b"\r", b"x" * 65_507]
    sender = receiving.sender()
    for message in messages:
        sender.send(message)
    await until(lambda: len(receiving.intake.messages) == 6)

    assert receiving.intake.messages == messages
    assert receiving.stats.messages == 6
    assert receiving.stats.bytes == sum(map(len, messages))


async def test_what_came_together_is_a_batch(receiving: Receiving) -> None:
    """No more datagrams than a turn has, with time and origin."""
    sender = receiving.sender()
    began = asyncio.get_running_loop().time()
    count = READS + 20
    for number in range(count):
        sender.send(b"%d" % number)
    await until(lambda: len(receiving.intake.messages) == count)
    first, *_ = receiving.intake.batches

    assert receiving.intake.messages == [b"%d" % number for number in range(count)]
    assert max(map(len, receiving.intake.batches)) <= READS
    assert len(first) > 1
    assert first.origin == f"udp://127.0.0.1:{sender.getsockname()[1]}"
    assert began <= first.received <= asyncio.get_running_loop().time()


async def test_many_senders(receiving: Receiving) -> None:
    """Each has its batch in a turn, however their datagrams are mixed, and the order of each stays."""
    senders = [receiving.sender() for _ in range(3)]
    for number in range(10):
        for sender in senders:
            sender.send(b"%d" % number)
    await until(lambda: len(receiving.intake.messages) == 30)
    by_origin: dict[str, list[bytes]] = {}
    for batch in receiving.intake.batches:
        by_origin.setdefault(batch.origin, []).extend(batch.messages)

    assert list(by_origin) == [f"udp://127.0.0.1:{sender.getsockname()[1]}" for sender in senders]
    assert set(map(tuple, by_origin.values())) == {tuple(b"%d" % number for number in range(10))}
    assert len(receiving.intake.batches) == 3


@pytest.mark.parametrize(
    "strip,messages",
    [
        (True, [b"one", b"two\r", b"three\n", b"", b"a\nb"]),
        (False, [b"one", b"two\r\n", b"three\n\n", b"\n", b"a\nb"]),
    ],
)
async def test_newline_at_the_end(strip: bool, messages: list[bytes]) -> None:
    """One is taken off, and not the one before it; strip=no leaves all there is."""
    async with Receiving(options=DatagramListenerOptions(strip=strip)) as receiving:
        sender = receiving.sender()
        for message in (b"one", b"two\r\n", b"three\n\n", b"\n", b"a\nb"):
            sender.send(message)
        await until(lambda: len(receiving.intake.messages) == 5)

        assert receiving.intake.messages == messages


async def test_one_line_by_a_shell(receiving: Receiving) -> None:
    """What `echo hi | nc -u` sends can go out as a line."""
    receiving.sender().send(b"hi\n")
    await until(lambda: receiving.intake.messages)

    assert receiving.intake.messages == [b"hi"]


# -- what is not passed on -------------------------------------------------------------------------


async def test_datagrams_that_are_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """They are counted and logged, not cut, not shown; the newline that is stripped does not count."""
    async with Receiving(options=DatagramListenerOptions(max_message=5)) as receiving:
        sender = receiving.sender()
        for message in (b"12345", b"12345\n", b"123456", b"secret" * 1000, b"1"):
            sender.send(message)
        await until(lambda: receiving.stats.messages + receiving.stats.dropped == 5)

        assert receiving.intake.messages == [b"12345", b"12345", b"1"]
        assert receiving.stats.dropped == 2
        assert "dropped: longer than 5 bytes; raise it with ?max-message=" in lines_of(caplog)[0]
        assert "secret" not in caplog.text


async def test_datagram_that_the_buffer_does_not_hold(tmp_path: Path) -> None:
    """The kernel would cut it: it is counted, and what comes after it is passed on."""
    async with Receiving(UnixBinding(tmp_path / "box")) as receiving:
        sender = receiving.sender()
        sender.send(b"x" * 100_000)
        sender.send(b"y" * 64 * 1024 + b"\n")
        await until(lambda: receiving.stats.messages)

        assert receiving.intake.messages == [b"y" * 64 * 1024]
        assert receiving.stats.dropped == 1


async def test_limit_above_all_memory() -> None:
    """Room is made for what datagrams can be, not for what they may be: messages still arrive."""
    async with Receiving(options=DatagramListenerOptions(max_message=1 << 50)) as receiving:
        receiving.sender().send(b"one")
        await until(lambda: receiving.stats.messages)

        assert receiving.intake.messages == [b"one"]


class _Joining(UnixBinding):
    """Says of each datagram that the kernel made it of messages of 5 bytes."""

    ancillary = 64

    async def bind(self) -> Sequence[socket.socket]:
        (sock,) = await super().bind()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return [sock]

    def accompanied(self, peer: object, ancillary: Ancillary) -> tuple[object, int]:
        return peer, 5


async def test_joined_datagrams_that_the_buffer_does_not_hold(tmp_path: Path) -> None:
    """Where it was cut nobody knows: none of its messages is passed on."""
    async with Receiving(_Joining(tmp_path / "box")) as receiving:
        sender = receiving.sender()
        sender.send(b"x" * 100_000)
        sender.send(b"aaaaabbbbbcc")
        await until(lambda: receiving.stats.messages)

        assert receiving.intake.messages == [b"aaaaa", b"bbbbb", b"cc"]
        assert receiving.stats.dropped == 1


@pytest.mark.usefixtures("unhurried")
async def test_paused_intake(receiving: Receiving, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on reading, and counts what it throws away; after that everything is passed on again."""
    sender = receiving.sender()
    receiving.intake.paused = True
    for _ in range(500):
        sender.send(b"lost")
    await until(lambda: receiving.stats.dropped == 500)
    receiving.intake.resume()
    sender.send(b"kept")
    await until(lambda: receiving.intake.messages)

    assert receiving.intake.messages == [b"kept"]
    assert receiving.stats.messages == 1
    assert len(lines_of(caplog)) == 1


async def test_intake_that_is_full_in_the_middle(receiving: Receiving) -> None:
    """What was read before it was paused is passed on, from whomever; what is read after that is not."""
    receiving.intake.pause_after = 1
    senders = [receiving.sender() for _ in range(3)]
    for sender in senders:
        sender.send(b"in time")
    await until(lambda: receiving.stats.messages == 3)
    senders[0].send(b"late")
    await until(lambda: receiving.stats.dropped)

    assert receiving.intake.messages == [b"in time"] * 3


class _Blind(UdpBinding):
    """The control: asks nobody what there was no room for."""

    def lost(self, sock: socket.socket) -> int:
        return 0


@pytest.mark.parametrize("blind", [False, True], ids=["ours", "control"])
async def test_kernel_without_room(blind: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What it drops is counted when we read, though nothing comes after it; the control is short of it."""
    binding = _Blind if blind else UdpBinding
    here = Endpoint.parse("udp://127.0.0.1:0")
    async with Receiving(binding(here, UdpListenerOptions(receive_buffer=4096))) as receiving:
        sender = receiving.sender()
        for _ in range(1000):
            sender.send(b"x" * 100)
        await until(lambda: receiving.stats.messages)
        idle = select.poll()
        idle.register(receiving.listener._ports[0].socket, select.POLLIN)
        await until(lambda: not idle.poll(0))

        counted = receiving.stats.messages + receiving.stats.dropped
        assert 0 < receiving.stats.messages < 1000
        assert (counted < 1000) if blind else (counted == 1000)
        if not blind:
            assert "the kernel had no room for them, and counts" in caplog.text
            assert "raise it with ?receive-buffer=" in caplog.text


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs Linux: UDP_SEGMENT")
async def test_datagrams_that_the_kernel_joined(receiving: Receiving) -> None:
    """What was sent by one call comes by one read; the messages are those that were sent."""
    sender = receiving.sender()
    segment = (socket.IPPROTO_UDP, 103, (7).to_bytes(2, sys.byteorder))
    lines = [b"%06d\n" % number for number in range(200)]
    for start in range(0, 200, 50):
        sender.sendmsg([b"".join(lines[start : start + 50]) + b"end"], [segment])
    await until(lambda: len(receiving.intake.messages) == 204)
    (batch,) = receiving.intake.batches

    assert [message + b"\n" for message in batch if message != b"end"] == lines
    assert receiving.stats.bytes == 200 * 7 + 4 * 3


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs Linux: UDP_SEGMENT")
async def test_joined_datagrams_without_room(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel counts a piece as one, whatever it holds: so the log says that it may be more."""
    here = Endpoint.parse("udp://127.0.0.1:0")
    async with Receiving(UdpBinding(here, UdpListenerOptions(receive_buffer=4096))) as receiving:
        sender = receiving.sender()
        for _ in range(50):
            sender.sendmsg([b"x" * 2000], [(socket.IPPROTO_UDP, 103, (100).to_bytes(2, sys.byteorder))])
        await until(lambda: receiving.stats.dropped)
        pieces = receiving.stats.messages // 20

        assert 0 < pieces < 50
        assert receiving.stats.dropped == 50 - pieces
        assert "counts those that it joined as one" in caplog.text


async def test_senders_that_are_not_admitted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their messages are counted, and go nowhere."""
    async with Receiving(UnixBinding(tmp_path / "box", origin=None)) as receiving:
        sender = receiving.sender()
        sender.send(b"one")
        sender.send(b"two")
        await until(lambda: receiving.stats.refused == 2)

        assert receiving.intake.messages == []
        assert "refused: their sender is not allowed" in lines_of(caplog)[0]


class _Broken(FakeIntake):
    """An intake that fails once."""

    def feed(self, batch: Batch) -> None:
        super().feed(batch)
        if len(self.batches) == 1:
            raise RuntimeError("a fault in the intake")


async def test_intake_with_a_fault(receiving: Receiving, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with a traceback, what it was given is counted, and reading goes on."""
    await receiving.listener.aclose()
    async with Receiving() as again:
        again.intake = again.listener._intake = _Broken()
        sender = again.sender()
        sender.send(b"one")
        await until(lambda: again.stats.dropped)
        sender.send(b"two")
        await until(lambda: len(again.intake.messages) == 2)

        assert (again.stats.messages, again.stats.dropped) == (1, 1)
        assert "RuntimeError while passing it on" in lines_of(caplog)[0]
        assert caplog.records[0].exc_info


async def test_socket_that_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left alone for a while instead of being asked in each turn of the loop, and then goes on."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(listener, "receiver", OneByOne)  # whose call can be made to fail
    monkeypatch.setattr(listener, "_PAUSE", 3600.0)  # However long these turns take, they are in it.
    binding = UnixBinding(tmp_path / "box", faults=[errno.ENOMEM] * 10_000)
    async with Receiving(binding) as receiving:
        receiving.sender().send(b"one")
        await until(lambda: binding.socket.failures)
        for _ in range(1000):
            await asyncio.sleep(0)
        failures = binding.socket.failures
        binding.socket.faults = ()
        monkeypatch.setattr(loop, "time", lambda: clock() + 3600.0)
        await until(lambda: receiving.intake.messages)

        assert failures == 1
        assert "cannot be read for now: cannot allocate memory" in lines_of(caplog)[0]


# -- start and end ---------------------------------------------------------------------------------


async def test_drain_reads_what_has_arrived(receiving: Receiving) -> None:
    """Everything that was sent before the call is passed on, and nothing that is sent after it."""
    sender = receiving.sender()
    for number in range(300):
        sender.send(b"%d" % number)
    await receiving.listener.stop_accepting()
    await receiving.listener.drain()
    assert len(receiving.intake.messages) == 300
    sender.send(b"after the drain")
    for _ in range(10):
        await asyncio.sleep(0)

    assert len(receiving.intake.messages) == 300


async def test_drain_of_a_sender_that_never_stops(receiving: Receiving) -> None:
    """It ends by itself: what comes meanwhile is not what had arrived."""
    sender = receiving.sender()

    class Endless(FakeIntake):
        def feed(self, batch: Batch) -> None:
            for _ in batch:
                sender.send(b"more")

    receiving.listener._intake = Endless()
    receiving.listener._ports[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    for _ in range(100):
        sender.send(b"more")
    async with asyncio.timeout(20):
        await receiving.listener.drain()

    assert receiving.stats.messages >= 100


async def test_drain_waits_for_a_paused_intake(receiving: Receiving) -> None:
    """What has arrived stays where it is until there is room for it."""
    receiving.listener._stop_reading()
    receiving.intake.paused = True
    receiving.sender().send(b"late")
    draining = asyncio.ensure_future(receiving.listener.drain())
    await until(lambda: receiving.intake.asked)
    waited = not draining.done()
    receiving.intake.resume()
    await draining

    assert waited
    assert receiving.intake.messages == [b"late"]


async def test_close_lets_go_of_everything(tmp_path: Path) -> None:
    """Twice is no trouble, nor is closing or draining what never started; the binding is told once."""
    binding = UnixBinding(tmp_path / "box")
    receiving = Receiving(binding)
    await receiving.listener.aclose()
    await receiving.listener.drain()
    async with receiving:
        sender = receiving.sender()
        await receiving.listener.aclose()
        await receiving.listener.aclose()

        with pytest.raises(ConnectionRefusedError):
            sender.send(b"nobody")
        assert binding.released == 1


async def test_start_that_fails() -> None:
    """A port that is taken leaves nothing behind, and the listener can be closed."""
    async with Receiving() as first:
        second = DatagramListener(UdpBinding(first.endpoint, UdpListenerOptions()), DatagramListenerOptions())
        with pytest.raises(ListenError, match="address already in use"):
            await second.start(FakeIntake())
        await second.aclose()


async def test_no_descriptors(tmp_path: Path) -> None:
    """The error says what to do about that, and a later start goes well."""
    receiving = Receiving(UnixBinding(tmp_path / "box"))
    with out_of_files(), pytest.raises(ListenError, match=OUT_OF_FILES):
        await receiving.listener.start(receiving.intake)
    async with receiving:
        receiving.sender().send(b"one")
        await until(lambda: receiving.intake.messages)


def test_limit_that_makes_no_sense() -> None:
    """Such an option is an error that names it."""
    with pytest.raises(InvalidOption, match="max-message must be at least 1 byte"):
        Receiving(options=DatagramListenerOptions(max_message=0))

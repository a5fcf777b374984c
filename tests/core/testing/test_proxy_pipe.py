"""What takes time in a fault proxy, in virtual time: so it is known to the millisecond."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from producer_pool.testing import FaultProxy, Faults, in_virtual_time, run_in_virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


class End:
    """One end of a stream: what came, when, and in which pieces."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.came: list[tuple[float, bytes]] = []
        self.ended: float | None = None
        self._began = now()
        asyncio.get_running_loop().add_reader(sock, self._read)

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.came)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.came]

    def _read(self) -> None:
        data = self.sock.recv(1 << 20)
        if data:
            self.came.append((now() - self._began, data))
        else:
            self.ended = now() - self._began
            asyncio.get_running_loop().remove_reader(self.sock)


@asynccontextmanager
async def joined(folder: Path, *, seed: int = 0) -> AsyncIterator[tuple[FaultProxy, End, End]]:
    """Give a proxy on this loop, and both ends of a connection through it."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(folder / f"{seed}.sock"))
        listening.listen()
        async with FaultProxy(f"unix://{folder}/{seed}.sock", seed=seed) as proxy:
            client.connect(proxy.url.removeprefix("unix://"))
            while not proxy.connections or not proxy.connections[0].reached:
                await asyncio.sleep(0)
            with listening.accept()[0] as server:
                for sock in (client, server):
                    sock.setblocking(False)
                ends = End(client), End(server)
                yield proxy, *ends
                for end in ends:
                    loop.remove_reader(end.sock)
        (folder / f"{seed}.sock").unlink()


@in_virtual_time
async def test_without_faults(tmp_path: Path) -> None:
    """The control: all comes in one piece, and no time passes."""
    async with joined(tmp_path) as (_, client, server):
        client.sock.send(b"x" * 1000)
        await asyncio.sleep(1)

        assert server.came == [(0.0, b"x" * 1000)]
        assert client.came == []


@in_virtual_time
async def test_delay(tmp_path: Path) -> None:
    """Each piece comes so much later, and so does the end; what is sent meanwhile does not wait for it."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(delay=5.0)
        client.sock.send(b"one")
        await asyncio.sleep(2)
        client.sock.send(b"two")
        server.sock.send(b"answer")
        client.sock.shutdown(socket.SHUT_WR)
        await asyncio.sleep(60)

        assert server.came == [(5.0, b"one"), (7.0, b"two")]
        assert server.ended == 7.0
        assert client.came == [(2.0, b"answer")]


@in_virtual_time
async def test_less_delay(tmp_path: Path) -> None:
    """A delay that is made shorter holds for what is kept, too, and nothing overtakes."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(delay=3600.0)
        client.sock.send(b"one")
        await asyncio.sleep(2)
        proxy.forth.faults = Faults(delay=1.0)
        client.sock.send(b"two")
        await asyncio.sleep(60)

        assert server.came == [(3.0, b"one"), (3.0, b"two")] or server.came == [(3.0, b"onetwo")]


def arrivals(folder: Path, seed: int) -> list[float]:
    """Return when each of 50 bytes comes that are sent a tenth of a second apart, with jitter."""

    async def story() -> list[float]:
        async with joined(folder, seed=seed) as (proxy, client, server):
            proxy.forth.faults = Faults(delay=1.0, jitter=0.5)
            for number in range(50):
                client.sock.send(bytes([number]))
                await asyncio.sleep(0.1)
            await asyncio.sleep(10)
            assert server.data == bytes(range(50))
            return [time for time, data in server.came for _ in data]

    return run_in_virtual_time(story)


def test_jitter(tmp_path: Path) -> None:
    """It is within its bounds, the order stays, and the same seed draws the same."""
    times = arrivals(tmp_path, 1)
    stays = [time - number * 0.1 for number, time in enumerate(times)]

    assert all(1.0 <= stay <= 1.5 + 1e-6 for stay in stays)
    assert len({round(stay, 3) for stay in stays}) > 20
    assert times == arrivals(tmp_path, 1)
    assert times != arrivals(tmp_path, 2)


@in_virtual_time
async def test_jitter_of_each_connection_is_its_own(tmp_path: Path) -> None:
    """What happens in the other direction changes nothing about it."""
    with_answers: list[list[float]] = []
    for answers in (False, True):
        async with joined(tmp_path) as (proxy, client, server):
            proxy.forth.faults = proxy.back.faults = Faults(jitter=5.0)
            for _ in range(5):
                if answers:
                    server.sock.send(b"answer")
                client.sock.send(b"x")
                await asyncio.sleep(10)
            assert client.times != server.times
            with_answers.append([round(time, 9) for time in server.times])

    assert with_answers[0] == with_answers[1]


@in_virtual_time
async def test_bandwidth(tmp_path: Path) -> None:
    """So many bytes come in a second, and not in bursts; the other direction has its own."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(bandwidth=1000.0)
        data = Random(1).randbytes(10_000)
        client.sock.send(data)
        server.sock.send(data)
        await asyncio.sleep(60)

        assert server.data == data
        assert server.times[-1] == pytest.approx(10.0, abs=0.1)
        assert max(len(piece) for _, piece in server.came) <= 50
        assert client.came == [(0.0, data)]


@in_virtual_time
async def test_bandwidth_is_not_saved_up(tmp_path: Path) -> None:
    """A pause is no credit for later."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(bandwidth=1000.0)
        client.sock.send(b"x")
        await asyncio.sleep(100)
        client.sock.send(b"x" * 1000)
        await asyncio.sleep(60)

        assert server.times[-1] == pytest.approx(101.0, abs=0.1)


@in_virtual_time
async def test_recovery_from_next_to_no_bandwidth(tmp_path: Path) -> None:
    """It is at once, however long the next byte would have had to wait."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(bandwidth=0.001)
        client.sock.send(b"abc")
        await asyncio.sleep(1)
        assert server.data == b"a"
        proxy.recover()
        await asyncio.sleep(1)

        assert server.data == b"abc"


@in_virtual_time
async def test_slices(tmp_path: Path) -> None:
    """A receiver that reads as fast as the proxy writes sees each piece alone."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(slice=7)
        client.sock.send(bytes(range(100)))
        await asyncio.sleep(1)

        assert [len(data) for _, data in server.came] == [7] * 14 + [2]
        assert server.data == bytes(range(100))


@in_virtual_time
async def test_slices_with_time_between(tmp_path: Path) -> None:
    """With a bandwidth, each byte comes at its own time."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(slice=1, bandwidth=10.0)
        client.sock.send(b"abc")
        await asyncio.sleep(10)

        assert [data for _, data in server.came] == [b"a", b"b", b"c"]
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
        assert gaps == pytest.approx([0.1, 0.1], abs=0.021)


@in_virtual_time
async def test_faults_together(tmp_path: Path) -> None:
    """They add up: the first piece comes after the delay, the last one when the bandwidth lets it."""
    async with joined(tmp_path) as (proxy, client, server):
        proxy.forth.faults = Faults(delay=5.0, bandwidth=100.0, slice=50)
        client.sock.send(b"x" * 1000)
        client.sock.shutdown(socket.SHUT_WR)
        await asyncio.sleep(60)

        assert server.times[0] == 5.0
        assert server.times[-1] == server.ended == pytest.approx(15.0, abs=0.1)

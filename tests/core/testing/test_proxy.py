"""The fault proxy over real sockets: what passes unchanged, and what each fault does, and to what."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from producer_pool import Ack, ConfigurationError, DeliveryPolicy, ProducerPool, UsageError
from producer_pool.model.endpoint import Endpoint
from producer_pool.testing import FaultProxy, Faults
from producer_pool.testing.proxy_pipe import BUFFER
from support.consumers import RecordingConsumer, reserved_port, reset
from support.waiting import BOUND, eventually

MiB: Final = 1024 * 1024


class Target:
    """A listening socket at ``tcp://`` or ``unix://``, which accepts when a test wants to."""

    def __init__(self, scheme: str, folder: Path) -> None:
        if scheme == "unix":
            self.listening = socket.socket(socket.AF_UNIX)
            self.listening.bind(str(folder / "target.sock"))
            self.url = f"unix://{folder}/target.sock"
        else:
            self.listening = socket.socket()
            self.listening.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{self.listening.getsockname()[1]}"
        self.listening.listen()
        self.listening.settimeout(BOUND)
        self.taken: list[socket.socket] = []

    def accept(self) -> socket.socket:
        sock, _ = self.listening.accept()
        sock.settimeout(BOUND)
        self.taken.append(sock)
        return sock

    def close(self) -> None:
        for sock in (self.listening, *self.taken):
            sock.close()


def dial(url: str) -> socket.socket:
    endpoint = Endpoint.parse(url)
    sock = socket.socket(socket.AF_UNIX if endpoint.scheme == "unix" else socket.AF_INET)
    sock.settimeout(BOUND)
    try:
        sock.connect(endpoint.path if endpoint.scheme == "unix" else (endpoint.host, endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock


@pytest.fixture(params=["tcp", "unix"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(scheme: str, tmp_path: Path) -> Iterator[Target]:
    target = Target(scheme, tmp_path)
    yield target
    target.close()


@pytest.fixture
def tcp_target(tmp_path: Path) -> Iterator[Target]:
    target = Target("tcp", tmp_path)
    yield target
    target.close()


@contextmanager
def joined(proxy: FaultProxy, target: Target) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of one connection through *proxy*: the one who connected, and the target's."""
    with dial(proxy.url) as client, target.accept() as server:
        eventually(lambda: any(one.reached for one in proxy.connections), "the proxy reaches its target")
        yield client, server


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return bytes(data)


def receive_all(sock: socket.socket) -> tuple[bytes, str]:
    """Read to the end, and say how it came."""
    data = bytearray()
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        return bytes(data), "reset"
    return bytes(data), "end"


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing lies there to be read, and no end."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(BOUND)
    return False


def fill(sock: socket.socket) -> int:
    """Send until neither the kernels nor the proxy take any more, and return how many bytes they took."""
    sock.settimeout(0.3)
    size = 0
    try:
        while size < 64 * MiB:
            size += sock.send(b"x" * 65536)
    except TimeoutError:
        pass
    finally:
        sock.settimeout(BOUND)
    return size


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- without faults --------------------------------------------------------------------------------


def test_bytes_pass_unchanged(target: Target) -> None:
    """Several MiB in both directions at once, and each end of a stream, after which the other one goes on."""
    forth, back = Random(1).randbytes(5 * MiB), Random(2).randbytes(5 * MiB)
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        threads = [in_thread(lambda: client.sendall(forth)), in_thread(lambda: server.sendall(back))]
        reader = [b"", b""]

        def read(number: int, sock: socket.socket) -> None:
            reader[number] = receive(sock, 5 * MiB)

        threads += [in_thread(lambda: read(0, server)), in_thread(lambda: read(1, client))]
        for thread in threads:
            thread.join()
        client.shutdown(socket.SHUT_WR)
        assert receive_all(server) == (b"", "end")
        server.sendall(b"and more")
        server.shutdown(socket.SHUT_WR)

        assert receive_all(client) == (b"and more", "end")
        assert reader == [forth, back]
        assert (proxy.forth.passed, proxy.back.passed) == (5 * MiB, 5 * MiB + 8)
        eventually(lambda: proxy.connections == (), "the connection is forgotten")


def test_reset_passes(tcp_target: Target) -> None:
    """A reset by one side reaches the other one as a reset, after what came before it."""
    with FaultProxy(tcp_target.url) as proxy:
        with joined(proxy, tcp_target) as (client, server):
            client.sendall(b"hello")
            eventually(lambda: proxy.forth.passed == 5, "it passes")
            reset(client)
            assert receive_all(server) == (b"hello", "reset")
        with joined(proxy, tcp_target) as (client, server):
            server.sendall(b"hello")
            eventually(lambda: proxy.back.passed == 5, "it passes")
            reset(server)
            assert receive_all(client) == (b"hello", "reset")
        eventually(lambda: proxy.connections == (), "the connections are forgotten")


def test_reset_comes_after_what_was_delayed(tcp_target: Target) -> None:
    """It does not overtake: a network would not let it either."""
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target) as (client, server):
        proxy.forth.faults = Faults(delay=3600.0)
        client.sendall(b"hello")
        eventually(lambda: _kept(proxy) == 5, "the proxy has it")
        reset(client)
        proxy.recover()

        assert receive_all(server) == (b"hello", "reset")


def _kept(proxy: FaultProxy) -> int:
    """Return the bytes that the pipes of all open connections keep."""
    return sum(pipe.queued for connection in proxy.connections for pipe in connection._pipes)


def test_slow_reader_makes_its_sender_wait(target: Target) -> None:
    """What the proxy keeps is bounded; nothing is lost of what was taken."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        taken = fill(client)

        assert taken < 64 * MiB
        assert _kept(proxy) < BUFFER + 65536
        client.shutdown(socket.SHUT_WR)
        data, how = receive_all(server)
        assert (len(data), how) == (taken, "end")


def test_target_that_is_not_there(tmp_path: Path) -> None:
    """Whoever connected is reset, as it is too late to refuse; the next one may be luckier."""
    with reserved_port() as holder, FaultProxy(f"tcp://127.0.0.1:{holder.getsockname()[1]}") as proxy:
        with dial(proxy.url) as client:
            assert receive_all(client) == (b"", "reset")
        holder.listen()
        with dial(proxy.url) as client, holder.accept()[0] as server:
            client.sendall(b"hello")
            assert receive(server, 5) == b"hello"
        assert proxy.accepted == 2
    with FaultProxy(f"unix://{tmp_path}/nobody.sock") as proxy, dial(proxy.url) as client:
        assert receive_all(client)[0] == b""
    with FaultProxy(f"unix://{tmp_path}/{'long' * 100}") as proxy, dial(proxy.url) as client:
        assert receive_all(client)[0] == b""


def test_target_that_does_not_answer(tcp_target: Target) -> None:
    """Who connected gets no answer either, until the test resets it; then all is as before."""
    tcp_target.listening.listen(0)
    with FaultProxy(tcp_target.url) as proxy, dial(tcp_target.url), dial(proxy.url) as client:
        eventually(lambda: proxy.connections, "the proxy accepts")
        (connection,) = proxy.connections
        client.sendall(b"hello")
        assert is_silent(client)
        assert "connecting" in repr(connection)
        proxy.reset()
        assert receive_all(client) == (b"", "reset")
        tcp_target.accept()

        with joined(proxy, tcp_target) as (client, server):
            client.sendall(b"hello")
            assert receive(server, 5) == b"hello"


def test_pieces_go_out_at_once(tcp_target: Target) -> None:
    """The proxy's own sockets do not collect small pieces: what is late is late by a fault."""
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target):
        (connection,) = proxy.connections
        for sock in (connection._client, connection._target):
            assert sock is not None
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_name_with_several_addresses(tcp_target: Target) -> None:
    """Those that do not answer are passed over."""
    port = Endpoint.parse(tcp_target.url).port
    with FaultProxy(f"tcp://localhost:{port}") as proxy:
        proxy._addresses.insert(0, (socket.AF_INET, ("127.0.0.2", port)))
        endpoint = Endpoint.parse(proxy.url)
        with dial(f"tcp://127.0.0.1:{endpoint.port}") as client, tcp_target.accept() as server:
            client.sendall(b"hello")

            assert receive(server, 5) == b"hello"
        assert endpoint.host == "localhost"


# -- faults ----------------------------------------------------------------------------------------


def test_delay_is_for_one_direction(target: Target) -> None:
    """The other one goes on at once; to recover lets go what was kept."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        proxy.forth.faults = Faults(delay=3600.0)
        client.sendall(b"question")
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        eventually(lambda: _kept(proxy) == 8, "the proxy has it")
        assert is_silent(server)
        proxy.recover()

        assert receive(server, 8) == b"question"


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_reset_after(size: int, tcp_target: Target) -> None:
    """Exactly so many bytes arrive, and then a reset, on both sides; again for each connection."""
    data = Random(size).randbytes(400_000)
    with FaultProxy(tcp_target.url) as proxy:
        proxy.forth.faults = Faults(reset_after=size)
        for _ in range(5):
            with dial(proxy.url) as client, tcp_target.accept() as server:
                sender = threading.Thread(target=_send_in_vain, args=(client, data))
                sender.start()
                assert receive_all(server) == (data[:size], "reset")
                sender.join()
                assert receive_all(client)[0] == b""
        proxy.recover()
        with dial(proxy.url) as client, tcp_target.accept() as server:
            sender = in_thread(lambda: client.sendall(data))
            assert receive(server, len(data)) == data
            sender.join()


def _send_in_vain(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def test_reset_after_in_the_middle(tcp_target: Target) -> None:
    """It counts from when it is set, in connections that are open; the other direction does not count."""
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target) as (client, server):
        client.sendall(b"12345")
        assert receive(server, 5) == b"12345"
        proxy.forth.faults = Faults(reset_after=3)
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        client.sendall(b"6789")

        assert receive_all(server) == (b"678", "reset")


def test_reset_after_for_a_target_that_does_not_read(tcp_target: Target) -> None:
    """It comes all the same, in a bounded time."""
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target) as (client, server):
        proxy.forth.faults = Faults(reset_after=1_000_000)
        _send_in_vain(client, bytes(2_000_000))
        eventually(lambda: proxy.connections == (), "the connection is reset")
        data, how = receive_all(server)

        assert len(data) < 1_000_000
        assert how == "reset"
        assert proxy.forth.passed == 1_000_000


def test_reset(tcp_target: Target) -> None:
    """All open connections, or one of them; new ones are welcome."""
    with FaultProxy(tcp_target.url) as proxy, ExitStack() as stack:
        pairs = [stack.enter_context(joined(proxy, tcp_target)) for _ in range(3)]
        proxy.connections[1].reset()
        assert [receive_all(sock)[1] for sock in pairs[1]] == ["reset"] * 2
        assert all(is_silent(sock) for sock in (*pairs[0], *pairs[2]))
        assert [connection.number for connection in proxy.connections] == [0, 2]
        proxy.reset()
        assert [receive_all(sock)[1] for sock in (*pairs[0], *pairs[2])] == ["reset"] * 4
        assert proxy.connections == ()

        stack.enter_context(joined(proxy, tcp_target))
        assert proxy.accepted == 4


def test_half_close(target: Target) -> None:
    """One direction ends, and what is still said there is swallowed; the other one goes on."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        client.sendall(b"before")
        assert receive(server, 6) == b"before"
        proxy.forth.half_close()
        assert receive_all(server) == (b"", "end")
        client.sendall(b"behind")
        eventually(lambda: proxy.forth.swallowed == 6, "it is swallowed")
        server.sendall(b"answer")

        assert receive(client, 6) == b"answer"
        assert proxy.forth.passed == 6
        client.close()
        server.close()
        eventually(lambda: proxy.connections == (), "the connection is forgotten")


def test_black_hole(target: Target) -> None:
    """Its sender notices nothing, however much it sends, and the target hears nothing, not even the end."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        proxy.forth.faults = Faults(black_hole=True)
        client.sendall(bytes(64 * MiB))
        client.shutdown(socket.SHUT_WR)
        server.sendall(b"are you there?")
        assert receive(client, 14) == b"are you there?"
        eventually(lambda: proxy.forth.swallowed == 64 * MiB, "all is swallowed")
        assert is_silent(server)
        assert proxy.forth.passed == 0
        proxy.recover()

        assert receive_all(server) == (b"", "end")


def test_stalled(target: Target) -> None:
    """The control of the black hole: its sender has to wait, and all arrives in the end."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        proxy.forth.faults = Faults(stalled=True)
        taken = fill(client)
        client.shutdown(socket.SHUT_WR)
        server.sendall(b"are you there?")
        assert receive(client, 14) == b"are you there?"
        assert taken < 64 * MiB
        assert (proxy.forth.passed, proxy.forth.swallowed) == (0, 0)
        proxy.recover()
        data, how = receive_all(server)

        assert (len(data), how) == (taken, "end")


def test_connections_are_shown(target: Target) -> None:
    """Each says how far it is, and what it carried in which direction."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        (connection,) = proxy.connections
        client.sendall(b"hello")
        assert receive(server, 5) == b"hello"
        eventually(lambda: proxy.forth.passed == 5, "it is counted")

        assert repr(connection) == "<ProxiedConnection 0, open, passed 5 bytes forth and 0 back>"
        connection.reset()
        assert "0, closed, passed 5 bytes forth" in repr(connection)
        assert connection.forth.passed == proxy.forth.passed == 5


def test_refuse(target: Target) -> None:
    """Connections are refused, open ones go on; to recover means to listen at the same URL."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        url = proxy.url
        proxy.refuse()
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                dial(url)
        client.sendall(b"hello")
        assert receive(server, 5) == b"hello"
        proxy.recover()
        proxy.recover()

        assert proxy.url == url
        with joined(proxy, target) as (another, other):
            another.sendall(b"hello")
            assert receive(other, 5) == b"hello"


# -- a proxy's life --------------------------------------------------------------------------------


def test_nothing_is_left(target: Target) -> None:
    """No thread, no file descriptor, no file: with connections in every state."""
    threads, descriptors = threading.active_count(), _descriptors()
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(target.url))
        place = Path(Endpoint.parse(proxy.url).path)
        pairs = [stack.enter_context(joined(proxy, target)) for _ in range(4)]
        proxy.forth.faults = Faults(delay=3600.0)
        pairs[0][0].sendall(b"kept")
        eventually(lambda: _kept(proxy) == 4, "the proxy has it")
        proxy.forth.faults = Faults(stalled=True)
        fill(pairs[1][0])
        proxy.forth.half_close()
        proxy.back.faults = Faults(black_hole=True)
        pairs[2][1].close()
        stack.enter_context(dial(proxy.url))
        proxy.refuse()
        proxy.close()
        proxy.close()

    assert threading.active_count() == threads
    assert _descriptors() == descriptors
    assert not place.is_socket()


def _descriptors() -> list[str]:
    """Return what this process has open, without what listing it needs."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(found)


@pytest.mark.parametrize(
    "target,url",
    [
        ("tcp://127.0.0.1:9?framing=nul&timeout=2s", r"tcp://127.0.0.1:\d+\?framing=nul&timeout=2s"),
        ("wss://user:secret@localhost:9/in?x=y", r"wss://user:secret@localhost:\d+/in\?x=y"),
        ("tcp://[::1]:9", r"tcp://127.0.0.1:\d+"),
        ("unix:///run/x.sock?framing=nul", r"unix:///.*/socket\?framing=nul"),
        ("unix+serve:@name", r"unix\+serve:///.*/socket"),
    ],
)
def test_url(target: str, url: str) -> None:
    """It is that of the target at another place: nothing else differs, so that it can stand in for it."""
    with FaultProxy(target) as proxy:
        assert re.fullmatch(url, proxy.url)
        assert "secret" not in repr(proxy)


@pytest.mark.parametrize(
    "target,error,told",
    [
        ("127.0.0.1:9000", ConfigurationError, "did you mean tcp://127.0.0.1:9000?"),
        ("tcp://127.0.0.1", ConfigurationError, "names no port"),
        ("udp://127.0.0.1:9", UsageError, "a FaultProxy is for streams; udp has datagrams"),
        ("unix+dgram:///x", UsageError, "has datagrams"),
    ],
)
def test_target_that_cannot_be_used(target: str, error: type[Exception], told: str) -> None:
    """It is an error when the proxy is made, and says why."""
    with pytest.raises(error) as caught:
        FaultProxy(target)

    assert told in str(caught.value)


def test_proxy_that_does_not_run(tcp_target: Target) -> None:
    """Each call says so, before and after; it cannot run twice."""
    proxy = FaultProxy(tcp_target.url)
    for call in (proxy.reset, proxy.refuse, proxy.recover, lambda: proxy.url, proxy.back.half_close):
        with pytest.raises(UsageError, match="does not run"):
            call()
    proxy.close()
    with proxy:
        pass
    with pytest.raises(UsageError, match="does not run"):
        proxy.reset()
    with pytest.raises(UsageError, match="used once"), proxy:
        raise AssertionError("it ran twice")


def test_orders_from_many_threads(tcp_target: Target) -> None:
    """They are obeyed one after the other; the last one stands."""
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target) as (client, server):

        def order() -> None:
            for number in range(50):
                proxy.forth.faults = Faults(slice=number + 1)
                proxy.refuse()
                proxy.recover()

        threads = [in_thread(order) for _ in range(4)]
        for thread in threads:
            thread.join()
        client.sendall(b"hello")

        assert receive(server, 5) == b"hello"
        assert proxy.forth.faults == Faults()
        dial(proxy.url).close()


def test_proxy_that_cannot_begin(tcp_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong on its thread is raised where it was started, and nothing is left."""
    threads, descriptors = threading.active_count(), _descriptors()

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    proxy = FaultProxy(tcp_target.url)
    monkeypatch.setattr(proxy, "_listen", fail)
    with pytest.raises(OSError, match="too many open files"), proxy:
        raise AssertionError("it began")

    assert threading.active_count() == threads
    assert _descriptors() == descriptors


# -- between a pool and its consumer ---------------------------------------------------------------


def test_pool_through_a_network_that_breaks() -> None:
    """A relaying producer gets all through, over one connection after the other; a naive sender does not."""
    messages = [b"%02d" % number for number in range(12)]
    with RecordingConsumer() as consumer, FaultProxy(consumer.url) as proxy, ExitStack() as stack:
        pool = stack.enter_context(ProducerPool(policy=DeliveryPolicy.relay()))
        pool.add_producer("audit", f"{proxy.url}?retry-backoff=1ms&retry-max-backoff=5ms")
        naive = stack.enter_context(dial(proxy.url))
        for number, message in enumerate(messages):
            if number % 4 == 3:
                proxy.refuse()
                proxy.reset()
            receipt = pool.submit(message)
            _send_in_vain(naive, b"naive\n")
            if number % 4 == 3:
                proxy.recover()
            assert receipt.results(wait=BOUND).ok
            eventually(lambda: set(messages[: number + 1]) <= set(consumer.messages), "it arrives")  # noqa: B023

        assert [message for message in consumer.messages if message != b"naive"] == messages
        assert consumer.messages.count(b"naive") == 3
        assert proxy.accepted == 1 + 4


def test_acknowledged_by_the_proxy() -> None:
    """Who asks for KERNEL is told of the proxy's kernel, as of any next hop's: behind it, things get lost."""
    with RecordingConsumer() as consumer, FaultProxy(consumer.url) as proxy, ProducerPool() as pool:
        pool.add_producer("audit", f"{proxy.url}?ack=kernel")
        proxy.forth.faults = Faults(black_hole=True)
        result = pool.forward_to("audit", b"hello")
        eventually(lambda: proxy.forth.swallowed == 6, "it is swallowed")

        assert result.ack is Ack.KERNEL
        assert consumer.messages == []

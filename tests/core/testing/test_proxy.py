"""The fault proxy over real sockets: what each fault does, and to what; and the life of a proxy."""

from __future__ import annotations

import errno
import re
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

import pytest

from producer_pool import Ack, ConfigurationError, DeliveryPolicy, ProducerPool, UsageError
from producer_pool.model.endpoint import Endpoint
from producer_pool.testing import FaultProxy, Faults
from support.consumers import RecordingConsumer
from support.proxies import (
    Target,
    descriptors,
    dial,
    fill,
    in_thread,
    is_silent,
    joined,
    kept,
    receive,
    receive_all,
    send_in_vain,
)
from support.waiting import BOUND, eventually

MiB: Final = 1024 * 1024


# -- faults ----------------------------------------------------------------------------------------


def test_delay_is_for_one_direction(target: Target) -> None:
    """The other one goes on at once; to recover lets go what was kept."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        proxy.forth.faults = Faults(delay=3600.0)
        client.sendall(b"question")
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        eventually(lambda: kept(proxy) == 8, "the proxy has it")
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
                sender = threading.Thread(target=send_in_vain, args=(client, data))
                sender.start()
                assert receive_all(server) == (data[:size], "reset")
                sender.join()
                assert receive_all(client)[0] == b""
        proxy.recover()
        with dial(proxy.url) as client, tcp_target.accept() as server:
            sender = in_thread(lambda: client.sendall(data))
            assert receive(server, len(data)) == data
            sender.join()


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
        send_in_vain(client, bytes(2_000_000))
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
    threads, files = set(threading.enumerate()), descriptors()
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(target.url))
        place = Path(Endpoint.parse(proxy.url).path)
        pairs = [stack.enter_context(joined(proxy, target)) for _ in range(4)]
        proxy.forth.faults = Faults(delay=3600.0)
        pairs[0][0].sendall(b"kept")
        eventually(lambda: kept(proxy) == 4, "the proxy has it")
        proxy.forth.faults = Faults(stalled=True)
        fill(pairs[1][0])
        proxy.forth.half_close()
        proxy.back.faults = Faults(black_hole=True)
        pairs[2][1].close()
        stack.enter_context(dial(proxy.url))
        proxy.refuse()
        proxy.close()
        proxy.close()

    # Those of tests before this one may just be ending, or be collected.
    eventually(lambda: not set(threading.enumerate()) - threads, "its thread has ended")
    eventually(lambda: descriptors() <= files, "its files are closed")
    assert not place.is_socket()


@pytest.mark.parametrize(
    "target,url",
    [
        ("tcp://127.0.0.1:9?framing=nul&timeout=2s", r"tcp://127.0.0.1:\d+\?framing=nul&timeout=2s"),
        ("wss://user:secret@localhost:9/in?x=y", r"wss://user:secret@localhost:\d+/in\?x=y"),
        ("tcp://127.9.8.7:9", r"tcp://127\.9\.8\.7:\d+"),
        ("tcp://192.0.2.1:9", r"tcp://127\.0\.0\.1:\d+"),
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
    threads, files = set(threading.enumerate()), descriptors()

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    proxy = FaultProxy(tcp_target.url)
    monkeypatch.setattr(proxy, "_listen", fail)
    with pytest.raises(OSError, match="too many open files"), proxy:
        raise AssertionError("it began")

    # Those of tests before this one may just be ending, or be collected.
    eventually(lambda: not set(threading.enumerate()) - threads, "its thread has ended")
    eventually(lambda: descriptors() <= files, "its files are closed")


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
            send_in_vain(naive, b"naive\n")
            sent = min(number + 1, 3)
            eventually(lambda: consumer.messages.count(b"naive") == sent, "what is not lost arrives")  # noqa: B023
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

"""What passes a fault proxy without faults: all of it, unchanged, and how each side ends."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.testing import FaultProxy, Faults
from producer_pool.testing.proxy_pipe import BUFFER
from support.consumers import reserved_port, reset
from support.proxies import (
    Target,
    dial,
    fill,
    in_thread,
    is_silent,
    joined,
    kept,
    receive,
    receive_all,
)
from support.waiting import BOUND, eventually

MiB: Final = 1024 * 1024


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
        eventually(lambda: kept(proxy) == 5, "the proxy has it")
        reset(client)
        proxy.recover()

        assert receive_all(server) == (b"hello", "reset")


def test_reset_comes_after_what_lies_in_a_kernel(tcp_target: Target) -> None:
    """What was passed on, and the target had no room for yet, is not thrown away by it."""
    data = Random(3).randbytes(MiB)
    with FaultProxy(tcp_target.url) as proxy, joined(proxy, tcp_target) as (client, server):
        (connection,) = proxy.connections
        client.sendall(data)
        eventually(lambda: proxy.forth.passed == MiB, "it passes")
        reset(client)
        eventually(lambda: connection._pipes[0]._was_reset, "the proxy notices that")

        assert receive_all(server) == (data, "reset")


def test_slow_reader_makes_its_sender_wait(target: Target) -> None:
    """What the proxy keeps is bounded; nothing is lost of what was taken."""
    with FaultProxy(target.url) as proxy, joined(proxy, target) as (client, server):
        taken = fill(client)

        assert taken < 64 * MiB
        assert kept(proxy) < BUFFER + 65536
        client.shutdown(socket.SHUT_WR)
        data, how = receive_all(server)
        assert (len(data), how) == (taken, "end")


def test_target_that_is_not_there(tmp_path: Path) -> None:
    """Whoever connected is reset, as it is too late to refuse; the next one may be luckier."""
    with reserved_port() as holder, FaultProxy(f"tcp://127.0.0.1:{holder.getsockname()[1]}") as proxy:
        # It may be as early as in connect() itself.
        with pytest.raises(ConnectionResetError), dial(proxy.url) as client:
            client.recv(1)
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
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(tcp_target.url))
        stack.enter_context(dial(tcp_target.url))
        # Only when that one waits to be accepted, no other is answered.
        assert select.select((tcp_target.listening,), (), (), BOUND)[0]
        client = stack.enter_context(dial(proxy.url))
        eventually(lambda: proxy.connections, "the proxy accepts")
        (connection,) = proxy.connections
        client.sendall(b"hello")
        assert is_silent(client)
        assert "connecting" in repr(connection)
        proxy.reset()
        assert receive_all(client) == (b"", "reset")
        tcp_target.accept()

        with joined(proxy, tcp_target) as (other, server):
            other.sendall(b"hello")
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

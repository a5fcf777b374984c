"""Reaching a consumer over TCP, and leaving it."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError
from producer_pool.toolkit.sockets import tcp
from producer_pool.toolkit.sockets.resolver import Address
from producer_pool.toolkit.sockets.tcp import Ending, TcpDialer, TcpOptions, part, reset
from support.consumers import reserved_port
from support.streams import BOUND, Consumer, is_reset, receive, receive_all, send, until


def _dialer(url: str) -> TcpDialer:
    return TcpDialer(Endpoint.parse(url), TcpOptions())


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the name db.test have these addresses, in this order."""

    def set_addresses(*addresses: tuple[int, str, int]) -> None:
        async def resolve(host: str, port: int) -> list[Address]:
            assert host == "db.test"
            return [Address(family, (address, other or port)) for family, address, other in addresses]

        monkeypatch.setattr(tcp, "resolve", resolve)

    return set_addresses


@pytest.fixture
def full() -> Iterator[int]:
    """Return the port of somebody who takes no more connections, and does not say so."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy, socket.socket() as filler:
        filler.connect(busy.getsockname())
        # The place of the only one that may wait is taken as soon as there is somebody to accept.
        assert select.select([busy], [], [], BOUND)[0]
        yield busy.getsockname()[1]


# -- reaching --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_both_families(family: int) -> None:
    """IPv4 and IPv6 are reached, and the socket does not block."""
    with Consumer(family) as consumer:
        sock = await _dialer(consumer.url).dial(BOUND)

        assert sock.gettimeout() == 0
        assert sock.getpeername()[1] == consumer.port
        sock.close()


async def test_options_are_set() -> None:
    """No Nagle, keepalive after 10, 3 and 3, and a limit for what stays unacknowledged."""
    with Consumer() as consumer:
        sock = await _dialer(consumer.url).dial(BOUND)
        get = sock.getsockopt

        assert get(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert get(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [
            get(socket.IPPROTO_TCP, o)
            for o in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ] == [10, 3, 3]
        assert get(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        sock.close()


async def test_options_are_left_alone() -> None:
    """Each of them can be switched off."""
    options = TcpOptions(nodelay=False, keepalive=False, user_timeout=0)
    with Consumer() as consumer:
        sock = await TcpDialer(consumer.endpoint, options).dial(BOUND)

        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        sock.close()


async def test_patience_above_what_the_system_takes() -> None:
    """It is as long as the system has it: 24 days."""
    with Consumer() as consumer:
        sock = await TcpDialer(consumer.endpoint, TcpOptions(user_timeout=1e9)).dial(BOUND)

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1
        sock.close()


async def test_nobody_listens() -> None:
    """The error names the address and the reason, and asks the obvious question."""
    with reserved_port() as nobody:
        url = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ConnectError) as caught:
            await _dialer(url + "?max-message=5").dial(BOUND)

    assert str(caught.value) == f"{url}: connection refused; is it running?"


async def test_name_that_does_not_exist() -> None:
    """The error names the name."""
    with pytest.raises(ConnectError, match=r"tcp://no-such\.invalid:9: cannot look up no-such\.invalid: "):
        await _dialer("tcp://no-such.invalid:9").dial(BOUND)


async def test_first_address_refuses(resolves: Callable[..., None]) -> None:
    """All addresses of a name are tried in turn."""
    with Consumer() as consumer, reserved_port() as nobody:
        resolves((socket.AF_INET, *nobody.getsockname()), (socket.AF_INET, "127.0.0.1", 0))
        sock = await _dialer(f"tcp://db.test:{consumer.port}").dial(BOUND)

        assert sock.getpeername()[1] == consumer.port
        sock.close()


@pytest.mark.usefixtures("unhurried")
async def test_first_address_does_not_answer(full: int, resolves: Callable[..., None]) -> None:
    """One that swallows what is sent to it takes only its share of the time."""
    with Consumer() as consumer:
        resolves((socket.AF_INET, "127.0.0.1", full), (socket.AF_INET, "127.0.0.1", 0))
        sock = await _dialer(f"tcp://db.test:{consumer.port}").dial(0.4)

        assert sock.getpeername()[1] == consumer.port
        sock.close()


async def test_no_address_answers(resolves: Callable[..., None]) -> None:
    """The error says of each what it did."""
    resolves((socket.AF_INET, "127.0.0.1", 0), (socket.AF_INET, "127.0.0.2", 0))

    with (
        reserved_port("") as nobody,
        pytest.raises(
            ConnectError, match=r"none of its addresses answers \(127\.0\.0\.1: .*, 127\.0\.0\.2: "
        ),
    ):
        await _dialer(f"tcp://db.test:{nobody.getsockname()[1]}").dial(BOUND)


async def test_socket_that_found_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to oneself, which TCP allows, is no consumer: it counts as refused."""
    with reserved_port() as holder:  # or somebody else might be given it
        port = holder.getsockname()[1]

        def bind_first(options: TcpOptions, sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))

        monkeypatch.setattr(TcpOptions, "apply", bind_first)

        with pytest.raises(ConnectError, match="connection refused"):
            await _dialer(f"tcp://127.0.0.1:{port}").dial(BOUND)


async def test_cancelled_connect_leaves_nothing(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect that is given up closes its socket, and is no longer watched."""
    made: list[socket.socket] = []
    monkeypatch.setattr(TcpOptions, "apply", lambda options, sock: made.append(sock))
    dialing = asyncio.ensure_future(_dialer(f"tcp://127.0.0.1:{full}").dial(60))
    await until(lambda: made)
    (fd,) = [sock.fileno() for sock in made]
    dialing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialing

    assert made[0].fileno() == -1
    assert not asyncio.get_running_loop().remove_writer(fd)


async def test_ipv6_address_is_written_in_brackets() -> None:
    """Addresses are shown as in a URL, without options."""
    assert _dialer("tcp://[::1]:9?framing=nul").address == "tcp://[::1]:9"


# -- leaving ---------------------------------------------------------------------------------------


async def _pair(consumer: Consumer) -> tuple[socket.socket, socket.socket]:
    sock = await _dialer(consumer.url).dial(BOUND)
    return sock, await consumer.accept()


async def test_reset_is_no_clean_end() -> None:
    """The other side gets an error."""
    with Consumer() as consumer:
        ours, theirs = await _pair(consumer)
        ours.send(b"half a mess")
        reset(ours)

        assert await is_reset(theirs)


async def test_reset_of_what_is_closed() -> None:
    """It may be gone already."""
    sock = socket.socket()
    sock.close()
    reset(sock)


async def test_parting_from_a_quiet_consumer() -> None:
    """It gets everything and a clean end, though it reads only later."""
    with Consumer() as consumer:
        ours, theirs = await _pair(consumer)
        ours.send(b"x" * 100_000)
        await part(ours, 0)

        assert len(await receive_all(theirs)) == 100_000


@pytest.mark.parametrize("naive", [False, True])
async def test_parting_from_a_talking_consumer(naive: bool) -> None:
    """What it says does not turn the end into a reset; a plain close() would."""
    with Consumer() as consumer:
        ours, theirs = await _pair(consumer)
        ours.send(b"x" * 1000)
        await send(theirs, b"nobody reads this")
        await until(lambda: _readable(ours))
        if naive:
            ours.close()
            assert await is_reset(theirs)
            return
        parting = asyncio.ensure_future(part(ours, BOUND))
        got = await receive_all(theirs)
        await send(theirs, b"nor this")
        theirs.close()
        await parting

        assert len(got) == 1000


async def test_parting_from_one_that_never_ends() -> None:
    """The wait is bounded, and the socket is closed."""
    with Consumer() as consumer:
        ours, _ = await _pair(consumer)

        assert await part(ours, 0.01) is Ending.UNKNOWN
        assert ours.fileno() == -1


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("first", [True, False])
async def test_parting_from_one_that_closes(reads: bool, first: bool) -> None:
    """Its end tells whether it had read everything, whoever ended first; not waited for, nobody knows."""
    with Consumer() as consumer:
        for linger in (BOUND, 0):
            ours, theirs = await _pair(consumer)
            ours.send(b"x" * 1000)
            await until(lambda theirs=theirs: _readable(theirs))  # type: ignore[misc]
            if reads:
                await receive(theirs, 1000)
            if first:
                theirs.close()
                await until(lambda ours=ours: _has_ended(ours))  # type: ignore[misc]
            parting = asyncio.ensure_future(part(ours, linger))
            await asyncio.sleep(0)
            theirs.close()

            known = Ending.CLEAN if reads else Ending.RESET
            assert await parting is (known if linger else Ending.UNKNOWN)


def _readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def _has_ended(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))


async def test_parting_cut_short() -> None:
    """Cancelled, it closes at once."""
    with Consumer() as consumer:
        ours, _ = await _pair(consumer)
        parting = asyncio.ensure_future(part(ours, 60))
        await asyncio.sleep(0)
        parting.cancel()
        await asyncio.wait([parting])

        assert ours.fileno() == -1


def test_reasons_in_the_house_style() -> None:
    """Lower case, but not abbreviations."""
    assert tcp.why(errno.ECONNREFUSED) == "connection refused"
    assert tcp.why(OSError(1, "TLS is odd")) == "TLS is odd"
    assert tcp.why(OSError("no number")) == "no number"
    assert os.strerror(errno.ECONNREFUSED) == "Connection refused"

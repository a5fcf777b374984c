"""UDP sockets: where they lead, what they are told to be, and what they tell."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ConnectError, InvalidOption, ListenError
from producer_pool.model.text import format_size
from producer_pool.toolkit.datagrams.udp import (
    UdpBinding,
    UdpDialer,
    UdpListenerOptions,
    UdpOptions,
    is_multicast,
)
from producer_pool.toolkit.sockets import tcp as module
from producer_pool.toolkit.sockets.resolver import Address
from support.datagrams import Mailbox, Receiving, Sending, deaf, udp, vacant
from support.descriptors import out_of_files
from support.streams import BOUND, until

GROUP = "239.255.7.7"
needs_proc = pytest.mark.skipif(not Path("/proc/net/igmp6").exists(), reason="needs Linux: /proc")
LISTENER = UdpListenerOptions()
REMOTE = replace(LISTENER, allow_remote=True)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as made:
        yield made


@pytest.fixture
def dead() -> Iterator[int]:
    """Return a port at which nobody listens."""
    with vacant() as endpoint:
        yield endpoint.port


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the addresses of every name."""

    def set_addresses(*addresses: tuple[str, int]) -> None:
        async def resolve(host: str, port: int) -> list[Address]:
            return [Address(socket.AF_INET, address) for address in addresses]

        monkeypatch.setattr(module, "resolve", resolve)

    return set_addresses


def binding(url: str, options: UdpListenerOptions = LISTENER) -> UdpBinding:
    return UdpBinding(Endpoint.parse(url), options)


# -- clients ---------------------------------------------------------------------------------------


async def test_name_that_does_not_exist() -> None:
    """The error names the name, and says that nothing can have arrived."""
    with pytest.raises(ConnectError, match=r"udp://no-such\.invalid:9: cannot look up no-such\.invalid: "):
        await udp(Endpoint.parse("udp://no-such.invalid:9")).dial(20)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
async def test_socket_that_found_itself(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket whose port is the one it sends to is no consumer: nobody listens there."""
    made: list[socket.socket] = []
    with vacant(family) as gone:

        def bind_first(options: UdpOptions, sock: socket.socket, where: str) -> None:
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((gone.host, gone.port))

        monkeypatch.setattr(UdpOptions, "apply", bind_first)
        with pytest.raises(ConnectError, match=r"connection refused; is it running\?"):
            await udp(gone).dial(20)

    assert [sock.fileno() for sock in made] == [-1]  # its port is free for the consumer


async def test_name_is_looked_up_anew(mailbox: Mailbox, resolves: Callable[..., None]) -> None:
    """A consumer that moved is found at the next connection."""
    with Mailbox() as elsewhere:
        sending = Sending(udp(Endpoint.parse("udp://moves.test:9")))
        for box in (mailbox, elsewhere):
            resolves(("127.0.0.1", box.port))
            await sending.connect()
            sending.start([Batch.of([b"here"])])
            await until(box.read)
        await sending.client.aclose()

        assert mailbox.letters == elsewhere.letters == [b"here"]


async def test_nobody_at_the_first_address(
    mailbox: Mailbox, dead: int, resolves: Callable[..., None]
) -> None:
    """The first message finds out, and goes to the next address at once; the next connection begins there."""
    resolves(("127.0.0.1", dead), ("127.0.0.1", dead), ("127.0.0.1", mailbox.port))
    sending = Sending(udp(Endpoint.parse("udp://several.test:9")))
    for messages in ([b"one", b"two", b"three!"], [b"four"]):
        await sending.connect()
        assert sending.start([Batch.of(messages)]) == 1
        assert sending.client.settled().written == len(messages)
        await until(lambda: len(mailbox.read()) >= 3)
        assert not sending.signals.errors
    await until(lambda: len(mailbox.read()) == 4)
    await sending.client.aclose()

    assert mailbox.letters == [b"one", b"two", b"three!", b"four"]
    with await sending.dialer.dial(20) as sock:
        assert sock.getpeername()[1] == mailbox.port


async def test_no_descriptor_for_the_next_address(
    mailbox: Mailbox, dead: int, resolves: Callable[..., None]
) -> None:
    """Then it is not tried for now, and what came back from the first one does not count as written."""
    resolves(("127.0.0.1", dead), ("127.0.0.1", mailbox.port))
    async with Sending(udp(Endpoint.parse("udp://several.test:9"))) as sending:
        with out_of_files():
            sending.start([Batch.of([b"one", b"two"])])
        await until(lambda: sending.signals.errors)

        assert sending.client.settled() == (0, 0)


async def test_consumer_that_goes_away_though_its_name_has_another(resolves: Callable[..., None]) -> None:
    """Once it took a message, the connection is to it: it breaks, and the next one goes to the other."""
    with Mailbox() as other, Mailbox(shared=True) as mailbox, deaf(mailbox.port):
        resolves(("127.0.0.1", mailbox.port), ("127.0.0.1", other.port))
        sending = Sending(udp(Endpoint.parse("udp://several.test:9")))
        await sending.connect()
        sending.start([Batch.of([b"one"])])
        await until(mailbox.read)
        mailbox.close()
        sending.start([Batch.of([b"two"])])
        await until(lambda: sending.signals.errors)
        assert sending.client.settled() == (1, 1)
        await sending.connect()
        sending.start([Batch.of([b"two"])])
        await until(other.read)
        await sending.client.aclose()

        assert other.letters == [b"two"]


async def test_nobody_at_any_address(mailbox: Mailbox, dead: int, resolves: Callable[..., None]) -> None:
    """Then the connection breaks, once, with nothing written; and all are tried again on the next one."""
    resolves(("127.0.0.1", dead), ("127.0.0.1", dead))
    sending = Sending(udp(Endpoint.parse("udp://several.test:9")))
    await sending.connect()
    sending.start([Batch.of([b"one"])])
    await until(lambda: sending.signals.errors)
    assert sending.client.settled() == (0, 0)
    resolves(("127.0.0.1", dead), ("127.0.0.1", mailbox.port))
    await sending.connect()
    sending.start([Batch.of([b"one"])])
    await until(mailbox.read)
    await until(lambda: sending.client.settled() == (1, 1))
    await sending.client.aclose()

    assert mailbox.letters == [b"one"]


async def test_address_without_a_way(mailbox: Mailbox, resolves: Callable[..., None]) -> None:
    """An address that cannot be connected to is left out; if there is no other, the error says why."""
    resolves(("127.255.255.255", 9), ("127.0.0.1", mailbox.port))
    async with Sending(udp(Endpoint.parse("udp://several.test:9"))) as sending:
        sending.start([Batch.of([b"one"])])
        await until(mailbox.read)
    resolves(("127.255.255.255", 9))
    with pytest.raises(ConnectError, match=r"permission denied; say broadcast=yes, if that is meant"):
        await udp(Endpoint.parse("udp://several.test:9")).dial(20)


async def test_datagrams_that_came_back() -> None:
    """Their beginnings are told once, whole if they are short."""
    found: list[bytes] = []
    with vacant() as endpoint:
        dialer = udp(endpoint)
        sock = await dialer.dial(20)
        assert dialer.returned(sock) == []
        sock.send(b"one")
        await until(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.send(b"x" * 5000)
        async with asyncio.timeout(BOUND):
            while len(found) < 2:
                found += dialer.returned(sock) or []
                await asyncio.sleep(0)
    first, second = found

    assert first == b"one"
    assert 500 < len(second) < 5000
    assert set(second) == {ord("x")}
    assert dialer.returned(sock) == []
    sock.close()


async def test_error_of_its_own_is_nothing_that_came_back(mailbox: Mailbox) -> None:
    """A datagram that is too long never left."""
    dialer = udp(mailbox.endpoint)
    sock = await dialer.dial(20)
    with pytest.raises(OSError, match="too long") as caught:
        sock.send(b"x" * 65_508)

    assert caught.value.errno == errno.EMSGSIZE
    assert dialer.returned(sock) == []
    sock.close()


async def test_kernel_that_cannot_cut(monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox) -> None:
    """An older one is asked first, and messages go one by one."""
    dialer = udp(mailbox.endpoint)
    sock = await dialer.dial(20)

    class Old(socket.socket):
        def getsockopt(self, *args: int) -> int:  # type: ignore[override]
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    with Old(socket.AF_INET, socket.SOCK_DGRAM) as old:
        assert dialer.segmented(old) is None
    assert dialer.segmented(sock) is not None
    sock.close()


# -- multicast and broadcast -----------------------------------------------------------------------


async def test_multicast() -> None:
    """Both listeners of a group on one interface get what is sent to it there."""
    options = replace(REMOTE, multicast=True, multicast_interface="lo")
    # Programs that share a group may be given the same port: so each process has its own group.
    group = "239.255.{}.{}".format(*(os.getpid() % 2**16).to_bytes(2, "big"))
    async with (
        Receiving(binding(f"udp://{group}:0", options)) as one,
        Receiving(binding(f"udp://{group}:{one.endpoint.port}", options)) as other,
        Sending(UdpDialer(one.endpoint, UdpOptions(multicast=True, multicast_interface="lo"))) as sending,
    ):
        sending.start([Batch.of([b"to all", b"of you"])])
        await until(lambda: len(one.intake.messages) == len(other.intake.messages) == 2)

        assert one.intake.messages == other.intake.messages == [b"to all", b"of you"]


async def test_multicast_on_another_interface() -> None:
    """A socket gets only what comes where it has joined the group, whoever else has joined it elsewhere."""
    (sock,) = await binding(
        f"udp://{GROUP}:0", replace(REMOTE, multicast=True, multicast_interface="lo")
    ).bind()

    assert sock.getsockopt(socket.IPPROTO_IP, 49) == 0
    sock.close()


@needs_proc
async def test_multicast_over_ipv6() -> None:
    """The group is joined on the interface, and left when the socket is closed."""
    options = replace(REMOTE, multicast=True, multicast_interface="lo")
    mine = f"{os.getpid() % 2**16:04x}"
    (sock,) = await binding(f"udp://[ff15::7:{mine}]:0", options).bind()
    joined = groups_on("lo")
    sock.close()
    # An interface of this kind has no route for groups, so nothing can be sent there.
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        UdpOptions(multicast=True, multicast_interface="lo", multicast_ttl=3).apply(sender, "here")

        assert sender.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF) == socket.if_nametoindex("lo")
        assert sender.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 3
    assert f"ff15000000000000000000000007{mine}" in joined - groups_on("lo")


@needs_proc
async def test_group_of_one_link() -> None:
    """Such an address is on the interface that the option names, if it does not say so itself."""
    options = replace(REMOTE, multicast=True, multicast_interface="lo")
    mine = f"{os.getpid() % 2**16:04x}"
    (sock,) = await binding(f"udp://[ff02::7:{mine}]:0", options).bind()
    joined = groups_on("lo")
    *_, scope = sock.getsockname()
    sock.close()

    assert scope == socket.if_nametoindex("lo")
    assert f"ff02000000000000000000000007{mine}" in joined - groups_on("lo")


@pytest.mark.parametrize("group", ["ff02::7", "fe80::7"])
async def test_address_of_one_link_without_an_interface(group: str) -> None:
    """The error says what is missing, at both ends."""
    multicast = group.startswith("ff")
    missing = r"invalid argument; an address of one link needs its interface, as in \[fe80::1%25eth0\]"
    with pytest.raises(ListenError, match=missing):
        await binding(f"udp://[{group}]:0", replace(REMOTE, multicast=multicast)).bind()
    with pytest.raises(ConnectError, match=missing):
        await UdpDialer(Endpoint.parse(f"udp://[{group}]:9"), UdpOptions(multicast=multicast)).dial(20)


def groups_on(interface: str) -> set[str]:
    lines = [line.split() for line in Path("/proc/net/igmp6").read_text().splitlines()]
    return {line[2] for line in lines if line[1] == interface}


async def test_multicast_ttl() -> None:
    """It stays in its network unless it is told how far it may go."""
    for options, ttl in ((UdpOptions(multicast=True), 1), (UdpOptions(multicast=True, multicast_ttl=3), 3)):
        options = replace(options, multicast_interface="lo")
        sock = await UdpDialer(Endpoint.parse(f"udp://{GROUP}:9"), options).dial(20)

        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == ttl
        sock.close()


async def test_broadcast() -> None:
    """With the option, a datagram to all of a network goes out; without it, connecting says what to write."""
    with Mailbox(host="0.0.0.0") as mailbox:
        everybody = Endpoint.parse(f"udp://127.255.255.255:{mailbox.port}")
        async with Sending(UdpDialer(everybody, UdpOptions(broadcast=True))) as sending:
            sending.start([Batch.of([b"all"])])
            await until(mailbox.read)
        with pytest.raises(ConnectError, match=r"permission denied; say broadcast=yes, if that is meant"):
            await udp(everybody).dial(20)

    assert mailbox.letters == [b"all"]


@pytest.mark.parametrize(
    "host,multicast,wrong",
    [
        (GROUP, False, f"{GROUP} is a multicast group; say multicast=yes"),
        ("[ff15::7]", False, "ff15::7 is a multicast group; say multicast=yes"),
        ("127.0.0.1", True, r"127\.0\.0\.1 is no multicast group; leave out multicast=yes"),
    ],
)
async def test_multicast_only_where_it_is_said(host: str, multicast: bool, wrong: str) -> None:
    """A group that is not called one is an error at both ends, and so is the contrary."""
    endpoint = Endpoint.parse(f"udp://{host}:9")
    with pytest.raises(ConnectError, match=wrong):
        await UdpDialer(endpoint, UdpOptions(multicast=multicast)).dial(20)
    with pytest.raises(ConfigurationError, match=wrong):
        await UdpBinding(endpoint, replace(REMOTE, multicast=multicast)).bind()


async def test_multicast_has_to_be_allowed() -> None:
    """A group can be reached from other machines."""
    with pytest.raises(ConfigurationError, match="say allow-remote=yes"):
        await binding(f"udp://{GROUP}:0", replace(LISTENER, multicast=True)).bind()


@pytest.mark.parametrize("name", ["eht0", "lo\0"])
@pytest.mark.parametrize("make", [UdpDialer, UdpBinding])
def test_interface_that_is_none(make: Callable[[Endpoint, object], object], name: str) -> None:
    """The error lists those that there are."""
    options = (UdpOptions if make is UdpDialer else UdpListenerOptions)(multicast_interface=name)
    with pytest.raises(InvalidOption, match=rf"there is no network interface '{name[:2]}.*'; known: .*lo"):
        make(Endpoint.parse(f"udp://{GROUP}:9"), options)


def test_ttl_that_makes_no_sense() -> None:
    """Such an option is an error that names what is possible."""
    with pytest.raises(InvalidOption, match="multicast-ttl must be from 0 to 255"):
        UdpDialer(Endpoint.parse(f"udp://{GROUP}:9"), UdpOptions(multicast_ttl=256))


@pytest.mark.parametrize(
    "host,group", [(GROUP, True), ("ff02::1%lo", True), ("127.0.0.1", False), ("255.255.255.255", False)]
)
def test_groups_are_told_from_hosts(host: str, group: bool) -> None:
    """By their addresses."""
    assert is_multicast(host) is group


# -- listeners -------------------------------------------------------------------------------------


async def test_port_zero_is_a_free_one() -> None:
    """The endpoint that comes back has the real port, and the options it had."""
    bound = binding("udp://127.0.0.1:0?max-message=5")
    (sock,) = await bound.bind()
    endpoint = bound.endpoint([sock])

    assert endpoint.port == sock.getsockname()[1] != 0
    assert endpoint.options == {"max-message": "5"}
    assert sock.gettimeout() == 0
    sock.close()


async def test_port_is_taken(mailbox: Mailbox) -> None:
    """Nobody can listen beside who has it, and the error says how to find out who that is."""
    with pytest.raises(ListenError, match=r"address already in use; stop who has it \(`ss -lunp` names it\)"):
        await binding(mailbox.url).bind()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
async def test_other_machines_need_to_be_allowed(host: str) -> None:
    """What can be reached from elsewhere needs the flag, which is named; TLS is no way out."""
    with pytest.raises(ConfigurationError, match=r"listen at 127\.0\.0\.1 or say allow-remote=yes"):
        await binding(f"udp://{host}:0").bind()


async def test_other_machines_that_are_allowed() -> None:
    """With the flag it is done."""
    (sock,) = await binding("udp://0.0.0.0:0", REMOTE).bind()

    assert sock.getsockname()[0] == "0.0.0.0"
    sock.close()


@pytest.mark.parametrize("hosts", [("::1", "127.0.0.1"), ("::", "0.0.0.0")])
async def test_all_addresses_of_a_name_have_one_port(
    hosts: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv4 and IPv6 do not disturb each other, and each tells its own senders."""
    addresses = [Address(socket.AF_INET6, (hosts[0], 0, 0, 0)), Address(socket.AF_INET, (hosts[1], 0))]

    async def resolve(host: str, port: int, *, listening: bool) -> list[Address]:
        return addresses

    monkeypatch.setattr("producer_pool.toolkit.sockets.binding.resolve", resolve)
    async with Receiving(binding("udp://here.test:0", REMOTE)) as receiving:
        port = receiving.endpoint.port
        for family in (socket.AF_INET, socket.AF_INET6):
            async with Sending(udp(Endpoint.parse(f"udp://{HOSTS[family]}:{port}"))) as sending:
                sending.start([Batch.of([b"%d" % family])])
        await until(lambda: len(receiving.intake.messages) == 2)

        origins = sorted(batch.origin.rpartition(":")[0] for batch in receiving.intake.batches)
        assert origins == ["udp://127.0.0.1", "udp://[::1]"]


HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "[::1]"}


@pytest.mark.parametrize("wanted", [1 << 30, 1 << 40], ids=["much", "more than the system can be asked for"])
async def test_receive_buffer(caplog: pytest.LogCaptureFixture, wanted: int) -> None:
    """It is what was asked for; what the system does not allow is said, with the setting to raise."""
    (sock,) = await binding("udp://127.0.0.1:0", replace(LISTENER, receive_buffer=64 * 1024)).bind()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 64 * 1024
    sock.close()
    assert not caplog.records
    (sock,) = await binding("udp://127.0.0.1:0", replace(LISTENER, receive_buffer=wanted)).bind()
    given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    sock.close()

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    asked = format_size(wanted)
    text = f"receive-buffer={asked}, and the system gave {format_size(given)}; raise net.core.rmem_max"
    assert text in record.getMessage()


async def test_receive_buffer_that_nobody_asked_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is larger than the system's own, as far as that allows it, and nothing is said."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        usual = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    monkeypatch.setattr("producer_pool.toolkit.datagrams.udp._RECEIVE_BUFFER", 1 << 30)
    (sock,) = await binding("udp://127.0.0.1:0").bind()

    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > usual
    assert not caplog.records
    sock.close()


async def test_socket_that_tells_nothing() -> None:
    """Where the system has no such counter, nothing is counted."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.close()

        assert binding("udp://127.0.0.1:0").lost(other) == 0

"""Where one may listen, and what the errors say to do."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ListenError
from producer_pool.toolkit.sockets import binding as module
from producer_pool.toolkit.sockets.binding import TcpBinding, is_loopback
from producer_pool.toolkit.sockets.resolver import Address
from support.consumers import reserved_port


def _binding(url: str, *, allow_remote: bool = False) -> TcpBinding:
    return TcpBinding(Endpoint.parse(url), allow_remote=allow_remote)


def _close(sockets: object) -> None:
    for sock in sockets:  # type: ignore[attr-defined]
        sock.close()


async def test_port_zero_is_a_free_one() -> None:
    """The endpoint that comes back has the real port, and the options it had."""
    binding = _binding("tcp://127.0.0.1:0?max-message=5")
    sockets = await binding.bind()
    endpoint = binding.endpoint(sockets)

    assert endpoint.port == sockets[0].getsockname()[1] != 0
    assert endpoint.options == {"max-message": "5"}
    assert sockets[0].gettimeout() == 0
    _close(sockets)


async def test_all_addresses_of_a_name_have_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that tries any of them finds the same listener; addresses that are not here are left out."""

    async def resolve(host: str, port: int, *, listening: bool) -> list[Address]:
        hosts = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2")]
        return [Address(family, (address, port)) for family, address in hosts]

    monkeypatch.setattr(module, "resolve", resolve)
    sockets = await _binding("tcp://here.test:0").bind()

    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    assert {"127.0.0.1", "127.0.0.2"} <= {sock.getsockname()[0] for sock in sockets}
    _close(sockets)


async def test_port_is_free_at_once_after_a_restart() -> None:
    """Connections that linger from before do not keep the port."""
    with reserved_port() as holder:  # or somebody else might be given it meanwhile
        port = holder.getsockname()[1]
        (first,) = await _binding(f"tcp://127.0.0.1:{port}").bind()
        client = socket.create_connection(("127.0.0.1", port))
        first.setblocking(True)
        server, _ = first.accept()
        server.close()  # the side that closes first is the one that lingers
        client.close()
        first.close()
        sockets = await _binding(f"tcp://127.0.0.1:{port}").bind()

        assert sockets
        _close(sockets)


async def test_port_is_taken() -> None:
    """The error names the endpoint and three ways on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            await _binding(url).bind()

    assert str(caught.value).startswith(f"{url}: address already in use; stop who has it (`ss -ltnp`")


async def test_no_such_address() -> None:
    """An address of another machine cannot be listened at."""
    with pytest.raises(
        ListenError, match=r"cannot assign requested address; choose an address of this machine"
    ):
        await _binding("tcp://192.0.2.1:0", allow_remote=True).bind()


async def test_port_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which ports are."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module, "_listen", refuse)
    with pytest.raises(ListenError, match="permission denied; choose a port from 1024 up"):
        await _binding("tcp://127.0.0.1:80").bind()


async def test_name_that_does_not_exist() -> None:
    """The error names the name."""
    with pytest.raises(ListenError, match=r"tcp://no-such\.invalid:0: cannot look up no-such\.invalid: "):
        await _binding("tcp://no-such.invalid:0").bind()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "[::ffff:192.0.2.1]"])
async def test_other_machines_need_to_be_allowed(host: str) -> None:
    """What can be reached from elsewhere, all addresses at once included, needs the flag, which is named."""
    with pytest.raises(
        ConfigurationError, match=r"127\.0\.0\.1, use TLS, or say allow-remote=yes in its URL"
    ):
        await _binding(f"tcp://{host}:0").bind()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "0"])
def test_addresses_of_other_machines_are_refused_at_once(host: str) -> None:
    """What needs no lookup can be known before anything is bound."""
    with pytest.raises(ConfigurationError, match="allow-remote=yes"):
        _binding(f"tcp://{host}:0").check_now()
    _binding(f"tcp://{host}:0", allow_remote=True).check_now()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "no-such-name.invalid"])
def test_names_are_not_looked_up_before_it_is_time(host: str) -> None:
    """Of a name nothing is known yet, and this machine may always be listened at."""
    _binding(f"tcp://{host}:0").check_now()


async def test_other_machines_that_are_allowed() -> None:
    """With the flag it is done."""
    sockets = await _binding("tcp://0.0.0.0:0", allow_remote=True).bind()

    assert sockets[0].getsockname()[0] == "0.0.0.0"
    _close(sockets)


@pytest.mark.parametrize(
    "host,loopback",
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only addresses that no other machine can reach are loopback."""
    assert is_loopback(host) is loopback


async def test_origin_is_the_senders_address() -> None:
    """It is written as a URL."""
    binding = _binding("tcp+tls://[::1]:0")

    with socket.socket() as sock:
        assert binding.admit(sock, ("::1", 50123, 0, 0)) == "tcp+tls://[::1]:50123"

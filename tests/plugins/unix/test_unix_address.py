"""Which socket a URL names."""

from __future__ import annotations

import socket
import sys

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidEndpoint
from producer_pool_unix.address import Address, read_address

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: names without files")


def read(url: str) -> Address:
    return read_address(Endpoint.parse(url))


@pytest.mark.parametrize(
    "url,path,shown",
    [
        ("unix:///run/x.sock", b"/run/x.sock", "unix:///run/x.sock"),
        ("unix:/run/x.sock?mode=0660", b"/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/a%20b", b"/run/a b", "unix:///run/a%20b"),
        ("unix:///tmp/b%C3%BCcher", "/tmp/bücher".encode(), "unix:///tmp/b%C3%BCcher"),
        ("unix+dgram:///%40name", b"/@name", "unix+dgram:///%40name"),
    ],
)
def test_file(url: str, path: bytes, shown: str) -> None:
    """A path is decoded, and shown as it was written, without options."""
    address = read(url)

    assert (address.name, address.shown) == (path, shown)
    assert address.is_file
    assert address.path == path.decode()


@linux
@pytest.mark.parametrize(
    "url,name", [("unix:@name", b"\0name"), ("unix:@a/b", b"\0a/b"), ("unix:@b%C3%BC", "\0bü".encode())]
)
def test_name_without_a_file(url: str, name: bytes) -> None:
    """It begins with a zero byte, as unix(7) says, and is no file."""
    address = read(url)

    assert address.name == name
    assert not address.is_file


@pytest.mark.parametrize(
    "url,wrong",
    [
        ("unix:", "names no socket; write it as unix:///run/name.sock, or unix:@name for no file"),
        ("unix://", "names no socket"),
        ("unix:@", "names no socket; write it as unix:@name"),
        ("unix:x.sock", "a path begins with '/'.* write it as unix:///.+/x.sock, or unix:@x.sock"),
        ("unix://run/x.sock", "unix has no host; write it as unix:///run/x.sock"),
        ("unix://user:secret@run/x.sock", "no users and passwords"),
        ("unix:///run/a%00b", "holds no zero byte"),
        ("unix:@a%00b", "holds no zero byte"),
    ],
)
def test_no_socket(url: str, wrong: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(InvalidEndpoint, match=wrong) as caught:
        read(url)

    assert "secret" not in str(caught.value)


def test_names_without_files_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux has them."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidEndpoint, match="only Linux has names without files; write unix:///path"):
        read("unix:@name")


@linux
@pytest.mark.parametrize("place", ["/{}", "@{}"])
def test_longest_name(place: str) -> None:
    """The longest that is taken is the longest that the system takes; the error has both numbers."""
    longest = place.format("x" * (107 - place.startswith("/")))
    address = read(f"unix:{longest}")

    with socket.socket(socket.AF_UNIX) as sock:
        assert sock.connect_ex(address.name) != 0  # it is looked for
        with pytest.raises(OSError, match="too long"):
            sock.connect_ex(address.name + b"x")
    with pytest.raises(InvalidEndpoint) as caught:
        read(f"unix:{longest}x")
    assert "has at most 107 bytes, and this one has 108; choose a shorter one, such as unix:" in str(
        caught.value
    )


@linux
def test_length_is_counted_in_bytes() -> None:
    """And not in characters."""
    with pytest.raises(InvalidEndpoint, match="this one has 109"):
        read("unix:///" + "%C3%BC" * 54)

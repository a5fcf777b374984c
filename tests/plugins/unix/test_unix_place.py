"""Where others may connect, and who may."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidOption, ListenError
from producer_pool_unix.credentials import Credentials
from producer_pool_unix.place import Place, PlaceOptions

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SO_PEERCRED, names without files")
STRANGER = Credentials(4711, 54321, 100)
OURS = Credentials(os.getpid(), os.geteuid(), os.getegid())


def place(url: str) -> Place:
    endpoint = Endpoint.parse(url)
    return Place(endpoint, coerce(PlaceOptions, endpoint.options, where=endpoint.scheme))


@pytest.mark.parametrize(
    "query,wrong",
    [
        ("mode=0888", "option mode: '0888' is not of the form 0600: three octal digits"),
        ("mode=rw", "option mode: 'rw'"),
        ("mode=4600", "option mode: '4600'"),
        ("mode=", "option mode: ''"),
        ("allow-uid=me", "option allow-uid: 'me' is not a whole number"),
        ("allow-uid=-1", "option allow-uid: -1 is no user's number: from 0 to 4294967294"),
        ("allow-uid=0,4294967295", "option allow-uid: 4294967295 is no user's number"),
        ("allow-uid=1180591620717411303424", "option allow-uid: 1180591620717411303424 is no user's number"),
    ],
)
def test_options_that_are_wrong(query: str, wrong: str) -> None:
    """The error names the option, its value, and the form of a right one."""
    with pytest.raises(InvalidOption, match=wrong):
        place(f"unix:///run/x.sock?{query}")


@pytest.mark.parametrize("text,mode", [("0600", 0o600), ("660", 0o660), ("0666", 0o666)])
async def test_mode_is_octal(text: str, mode: int, tmp_path: Path) -> None:
    """With a zero before it, or without."""
    there = place(f"unix://{tmp_path}/x.sock?mode={text}")
    with socket.socket(socket.AF_UNIX) as sock:
        await there.bind(sock, sock.listen)

        assert (tmp_path / "x.sock").lstat().st_mode & 0o7777 == mode
        there.release()
    assert os.listdir(tmp_path) == []


# -- who may come ----------------------------------------------------------------------------------


def test_file() -> None:
    """Whoever the file lets in may come."""
    assert place("unix:///run/x.sock").origin(STRANGER) == "unix:///run/x.sock?pid=4711&uid=54321&gid=100"


@linux
def test_file_for_some() -> None:
    """Those who are named, our own user and root may come."""
    there = place("unix:///run/x.sock?mode=0666&allow-uid=54321,54322")

    assert there.origin(STRANGER)
    assert there.origin(STRANGER._replace(uid=54322))
    assert there.origin(OURS)
    assert there.origin(STRANGER._replace(uid=0))
    assert there.origin(STRANGER._replace(uid=54323)) is None


@linux
def test_name_without_a_file() -> None:
    """It has no mode, so our own user and root may come, and those who are named."""
    assert place("unix:@name").origin(STRANGER) is None
    assert place("unix:@name").origin(OURS) == f"unix:@name?{OURS}"
    assert place("unix:@name?allow-uid=54321").origin(STRANGER)


@linux
def test_user_that_the_mode_keeps_out() -> None:
    """To allow one and to keep it out is an error, which says how to let it in."""
    with pytest.raises(InvalidOption) as caught:
        place("unix:///run/x.sock?allow-uid=54321")

    assert str(caught.value) == (
        "unix:///run/x.sock: allow-uid lets in uid 54321, and mode=0600 keeps it out; "
        "say mode=0660, with a group that it is in, or mode=0666"
    )
    for url in (
        f"unix:///run/x.sock?allow-uid=0,{os.geteuid()}",
        "unix:///run/x.sock?allow-uid=54321&mode=0660",
        "unix:@name?allow-uid=54321",
    ):
        place(url)


def test_who_may_come_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody tells who connects, asking for it is an error, and the origin is the place alone."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidOption, match="allow-uid needs Linux, which tells who connects; use mode="):
        place("unix:///run/x.sock?allow-uid=54321")

    assert place("unix:///run/x.sock").origin(None) == "unix:///run/x.sock"


# -- names without files ---------------------------------------------------------------------------


@linux
async def test_name_that_is_taken() -> None:
    """The error says how to find out by whom."""
    with socket.socket(socket.AF_UNIX) as taken, socket.socket(socket.AF_UNIX) as sock:
        taken.bind("")  # some free name
        name = taken.getsockname()[1:].decode()
        with pytest.raises(ListenError) as caught:
            await place(f"unix:@{name}").bind(sock, sock.listen)

    assert str(caught.value) == (
        f"unix:@{name}: address already in use; stop who has it (`ss -xap` names it), or choose another name"
    )

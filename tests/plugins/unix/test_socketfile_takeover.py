"""Socket files that are there already: which are taken over, and by whom, when several start."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.errors import ListenError
from producer_pool_unix import socketfile
from producer_pool_unix.socketfile import SocketFile
from support.socketfiles import DATAGRAM, STREAM, Bound, Holder, abandoned, is_locked, lock_of, mode_of
from support.streams import BOUND, until

both = pytest.mark.parametrize("kind", [STREAM, DATAGRAM], ids=["stream", "datagram"])


# -- taking over -----------------------------------------------------------------------------------


@both
async def test_file_that_was_left_behind(bound: Callable[..., Bound], kind: int) -> None:
    """It is taken over, whatever mode it has, and nothing else is left in the directory."""
    one = bound(kind=kind)
    abandoned(one.path, kind)
    one.path.chmod(0o777)
    await one.bind()

    assert one.reaches()
    assert mode_of(one.path) == 0o600
    assert os.listdir(one.path.parent) == ["x.sock"]


@both
async def test_file_of_a_socket_of_another_type(bound: Callable[..., Bound], kind: int) -> None:
    """One that was left behind is taken over, and one that is not stays."""
    one, other = bound(kind=kind), bound(kind=DATAGRAM if kind == STREAM else STREAM)
    abandoned(one.path, other.socket.type)
    await one.bind()
    with pytest.raises(ListenError, match="somebody listens there already"):
        await other.bind()

    assert one.reaches()


@both
async def test_somebody_listens(bound: Callable[..., Bound], kind: int) -> None:
    """The error says so, and how to find out who; whoever listens goes on."""
    one, late = bound(kind=kind), bound(kind=kind)
    await one.bind()
    with pytest.raises(ListenError) as caught:
        await late.bind()

    assert str(caught.value) == (
        f"unix://{one.path}: somebody listens there already; "
        "stop who has it (`ss -xap` names it), or choose another path"
    )
    assert one.reaches()


async def test_somebody_listens_who_takes_nobody(bound: Callable[..., Bound]) -> None:
    """One whose queue of connections is full is alive."""
    one, late = bound(), bound()
    await one.bind()
    one.socket.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(one.path))
        with pytest.raises(ListenError, match="somebody listens there already"):
            await late.bind()


@pytest.mark.parametrize(
    "make,what",
    [
        (lambda path: path.write_text("data"), "a file that is no socket"),
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: path.symlink_to("elsewhere"), "a symbolic link"),
        (lambda path: os.mkfifo(path), "a file that is no socket"),
    ],
    ids=["file", "directory", "link", "pipe"],
)
async def test_something_else_is_there(
    bound: Callable[..., Bound], make: Callable[[Path], object], what: str
) -> None:
    """It is never removed."""
    one = bound()
    make(one.path)
    before = one.path.lstat()
    with pytest.raises(ListenError, match=f"{what} is there, which is never removed; move it"):
        await one.bind()

    assert one.path.lstat() == before
    assert os.listdir(one.path.parent) == ["x.sock"]


async def test_somebody_may_listen_whom_we_may_not_ask(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket of somebody else that we may not write to stays, for nobody knows whether it is in use."""
    one = bound()
    identity = abandoned(one.path)
    monkeypatch.setattr(SocketFile, "_ask", lambda self, kind: errno.EACCES)
    with pytest.raises(
        ListenError, match=r"a socket of uid \d+ is there, and we may not ask .* remove it if"
    ):
        await one.bind()

    assert (one.path.lstat().st_dev, one.path.lstat().st_ino) == identity


async def test_file_that_is_replaced_while_we_ask(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found to be abandoned is removed, and nothing else that has come into its place."""
    one = bound()
    abandoned(one.path)
    newer = Bound(one.path)
    ask = SocketFile._ask

    def replace(self: SocketFile, kind: int) -> int:
        code = ask(self, kind)
        one.path.rename(one.path.with_name("elsewhere"))
        newer.socket.bind(str(newer.path))
        newer.listen()
        return code

    monkeypatch.setattr(SocketFile, "_ask", replace)
    with newer.socket:
        with pytest.raises(ListenError, match="address already in use; stop who has it"):
            await one.bind()
        monkeypatch.undo()

        assert newer.reaches()


# -- one at a time ---------------------------------------------------------------------------------


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the locks that somebody tried to get, each time."""
    tried: list[str] = []
    really_open = SocketFile._open

    def opened(self: SocketFile, path: str) -> int:
        tried.append(path)
        return really_open(self, path)

    monkeypatch.setattr(SocketFile, "_open", opened)
    monkeypatch.setattr(
        socketfile, "_PATIENCE", 10 * BOUND
    )  # nobody gives up because this machine stood still
    return tried


async def test_another_one_starts_at_the_same_time(bound: Callable[..., Bound], tries: list[str]) -> None:
    """Who comes second waits, looks only then, and finds that the first one listens."""
    first, second = bound(), bound()
    abandoned(first.path)
    holder = Holder(first)
    waiting = asyncio.create_task(second.bind())
    await until(lambda: len(tries) > 1)
    assert not waiting.done()
    first.path.unlink()
    first.socket.bind(str(first.path))
    first.listen()
    holder.let_go()
    with pytest.raises(ListenError, match="somebody listens there already"):
        await waiting

    assert first.reaches()


async def test_another_one_starts_and_dies(bound: Callable[..., Bound]) -> None:
    """A lock that is left behind is no lock, and goes with the next start."""
    one = bound()
    holder = Holder(one)
    os.close(holder.fd)
    await one.bind()

    assert one.reaches()
    assert os.listdir(one.path.parent) == ["x.sock"]


async def test_lock_that_was_replaced(
    bound: Callable[..., Bound], tries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that is gone excludes nobody: it is got again, on the one that is there."""
    one = bound()
    holders: list[Holder] = []
    flock = fcntl.flock

    def overtaken(fd: int, operation: int) -> None:
        if not holders:
            lock_of(one).unlink()
            holders.append(Holder(one, flock))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    waiting = asyncio.create_task(one.bind())
    await until(lambda: len(tries) > 1)
    assert not waiting.done()
    holders[0].let_go()
    await waiting

    assert one.reaches()


async def test_lock_that_is_a_link(bound: Callable[..., Bound], tmp_path: Path) -> None:
    """Nothing is made where it leads to."""
    one = bound()
    lock_of(one).symlink_to(tmp_path / "victim")
    with pytest.raises(ListenError):
        await one.bind()

    assert not (tmp_path / "victim").exists()


async def test_lock_that_is_held_for_long(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait has an end, and the error says who could know more."""
    monkeypatch.setattr(socketfile, "_PATIENCE", 0.05)
    one = bound()
    holder = Holder(one)
    with pytest.raises(ListenError) as caught:
        await one.bind()
    holder.let_go()

    assert f"it holds a lock on {holder.path} (`fuser {holder.path}` names it)" in str(caught.value)
    assert os.listdir(one.path.parent) == []


async def test_lock_is_held_all_the_time(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first look at an old file until somebody listens at the new one."""
    one = bound()
    abandoned(one.path)
    locked = []
    lstat, listen = os.lstat, one.listen

    def look(path: Any) -> os.stat_result:
        if os.fspath(path) == str(one.path):
            locked.append(is_locked(one))
        return lstat(path)

    def listening() -> None:
        listen()
        locked.append(is_locked(one))

    monkeypatch.setattr(os, "lstat", look)
    monkeypatch.setattr(one, "listen", listening)
    await one.bind()

    assert locked == [True] * 4


async def test_without_a_lock(bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: two that find the same old file both listen, and nobody reaches the first of them."""
    slow, quick = bound(), bound()
    abandoned(slow.path)
    unlink = os.unlink

    def overtaken(path: object) -> None:
        monkeypatch.undo()
        quick.file._clear(STREAM)
        quick.file._make(quick.socket, quick.listen)
        unlink(str(path))

    monkeypatch.setattr(os, "unlink", overtaken)
    slow.file._clear(STREAM)
    slow.file._make(slow.socket, slow.listen)

    assert slow.reaches()
    assert not quick.reaches()
    assert quick.file._ours is not None  # it does not know


STARTER = """
import asyncio, socket, sys
from producer_pool.plugin import Endpoint, ListenError
from producer_pool_unix.address import read_address
from producer_pool_unix.socketfile import SocketFile

address = read_address(Endpoint.parse(f"unix://{sys.argv[1]}"))
print("ready", flush=True)
for line in sys.stdin:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            asyncio.run(SocketFile(address, mode=0o600).bind(sock, sock.listen))
            print("listens", flush=True)
        except ListenError as error:
            print(error, flush=True)
        sys.stdin.readline()
    print("gone", flush=True)
"""


def test_processes_that_start_together(tmp_path: Path) -> None:
    """However many find the file of one that died, one of them listens, and it is the one who is reached."""
    path = tmp_path / "x.sock"
    with contextlib.ExitStack() as running:
        starters = [running.enter_context(starter(path)) for _ in range(4)]
        for _ in range(25):
            said = tell(starters)

            assert sorted(line == "listens" for line in said) == [False] * 3 + [True], said
            with socket.socket(socket.AF_UNIX) as asking:
                assert asking.connect_ex(str(path)) == 0
            assert tell(starters) == ["gone"] * 4  # which leaves the file


@contextlib.contextmanager
def starter(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def tell(starters: list[subprocess.Popen[str]]) -> list[str]:
    """Tell all of them to go on, and return what they say."""
    for one in starters:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    return [one.stdout.readline().rstrip("\n") for one in starters if one.stdout is not None]

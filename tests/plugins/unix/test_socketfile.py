"""Socket files: their modes, what becomes of them at the end, and what cannot be."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.errors import ListenError
from support.listening import lines_of
from support.socketfiles import DATAGRAM, STREAM, Bound, lock_of, mode_of

both = pytest.mark.parametrize("kind", [STREAM, DATAGRAM], ids=["stream", "datagram"])


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


# -- modes -----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_mode(bound: Callable[..., Bound], kind: int, mode: int, umask: int) -> None:
    """It is what was asked for, whatever the umask, which stays as it was."""
    one = bound(mode=mode, kind=kind)
    await one.bind()

    assert mode_of(one.path) == mode
    assert os.umask(umask) == umask
    assert one.reaches()


@both
async def test_never_wider_than_asked(
    bound: Callable[..., Bound], kind: int, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has no wider mode from the moment on at which it is there."""
    one = bound(mode=0o600, kind=kind)
    seen = []
    lstat = os.lstat

    def looked(path: Any) -> os.stat_result:
        status = lstat(path)
        if stat.S_ISSOCK(status.st_mode):
            seen.append(stat.S_IMODE(status.st_mode))
        return status

    monkeypatch.setattr(os, "lstat", looked)
    await one.bind()

    # The first look is directly after bind().
    assert seen[0] & ~0o600 == 0


async def test_nobody_is_let_in_before_the_mode_is_right(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a socket has no mode of its own, a stream takes nobody until its file has it."""
    one = bound(mode=0o600)
    before = []
    chmod = os.chmod

    def looked(path: Any, mode: int) -> None:
        before.append((mode_of(one.path), one.reaches()))
        chmod(path, mode)

    def refuse(*args: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "chmod", looked)
    monkeypatch.setattr(os, "fchmod", refuse)
    old = os.umask(0)
    try:
        await one.bind()
    finally:
        os.umask(old)

    assert before == [(0o777, False)]
    assert mode_of(one.path) == 0o600
    assert one.reaches()


@both
@pytest.mark.parametrize("when", ["before it is looked at", "after that"])
async def test_file_that_is_replaced_as_it_is_made(
    bound: Callable[..., Bound], kind: int, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write to the directory cannot have the mode of another file changed, by a link to it."""
    other = tmp_path / "other"
    other.write_text("")
    other.chmod(0o640)
    one = bound(mode=0o666, kind=kind)
    lstat = os.lstat

    def replace() -> None:
        one.path.unlink()
        one.path.symlink_to(other)

    def look(path: Any) -> os.stat_result:
        made = path == str(one.path) and one.path.exists()
        if made and when == "before it is looked at":
            replace()
        found = lstat(path)
        if made and when == "after that":
            replace()
        return found

    monkeypatch.setattr(os, "lstat", look)
    old = os.umask(0o077)
    try:
        with pytest.raises(ListenError, match="somebody put another file into its place as it was made"):
            await one.bind()
    finally:
        os.umask(old)

    assert mode_of(other) == 0o640


# -- what cannot be --------------------------------------------------------------------------------


async def test_no_such_directory(tmp_path: Path) -> None:
    """The error names the directory."""
    one = Bound(tmp_path / "none" / "x.sock")
    with one.socket, pytest.raises(ListenError) as caught:
        await one.bind()

    assert str(caught.value) == (
        f"unix://{one.path}: no such file or directory: {tmp_path}/none; "
        "create this directory, or choose another path"
    )


async def test_directory_that_is_none(tmp_path: Path) -> None:
    """A file in the place of a directory is named, too."""
    (tmp_path / "file").write_text("")
    one = Bound(tmp_path / "file" / "x.sock")
    with one.socket, pytest.raises(ListenError, match=r"not a directory: .*/file; create this directory"):
        await one.bind()


async def test_directory_that_is_not_ours(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says who would have to be allowed to do what."""
    one = bound()

    def refuse(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ListenError) as caught:
        await one.bind()

    assert str(caught.value) == (
        f"unix://{one.path}: permission denied; "
        f"uid {os.geteuid()} has to be allowed to create and remove files in {one.path.parent}"
    )


async def test_lock_of_somebody_else(bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that we may not open is named: only its owner can say whether it is in use."""
    one = bound()
    lock = lock_of(one)
    lock.write_text("")

    def refuse(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ListenError, match=rf"its lock, {lock}, belongs to somebody else; remove it"):
        await one.bind()


@pytest.mark.parametrize("step", ["listen", "chmod"])
async def test_failure_half_way(
    bound: Callable[..., Bound], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a socket that could not be used is not left behind."""

    def fail(*args: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    one = bound(mode=0o666)
    monkeypatch.setattr(*((one, "listen", fail) if step == "listen" else (os, "chmod", fail)))
    with pytest.raises(ListenError, match="cannot allocate memory"):
        await one.bind()

    assert os.listdir(one.path.parent) == []


# -- removing --------------------------------------------------------------------------------------


async def test_file_is_removed(bound: Callable[..., Bound]) -> None:
    """Nothing is left, and a second time nothing happens."""
    one = bound()
    await one.bind()
    one.file.remove()
    one.file.remove()

    assert os.listdir(one.path.parent) == []


async def test_file_of_the_parent(bound: Callable[..., Bound]) -> None:
    """A forked child that cleans up leaves its parent the file, at which the parent still listens."""
    one = bound()
    await one.bind()
    child = os.fork()
    if not child:
        try:
            one.file.remove()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    assert one.reaches()
    one.file.remove()
    assert os.listdir(one.path.parent) == []


async def test_file_that_is_no_longer_ours(bound: Callable[..., Bound]) -> None:
    """Whoever has the path by now keeps it."""
    one, newer = bound(), bound()
    await one.bind()
    one.path.unlink()
    await newer.bind()
    one.file.remove()

    assert newer.reaches()


@pytest.mark.parametrize("gone", ["file", "directory"])
async def test_file_that_is_gone(tmp_path: Path, gone: str, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to say about it."""
    (tmp_path / "below").mkdir()
    one = Bound(tmp_path / "below" / "x.sock")
    with one.socket:
        await one.bind()
        one.path.unlink()
        if gone == "directory":
            one.path.parent.rmdir()
        one.file.remove()

    assert lines_of(caplog) == []


async def test_file_that_may_not_be_removed(
    bound: Callable[..., Bound], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, and the log says so: who starts next takes it over."""

    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    one = bound()
    await one.bind()
    monkeypatch.setattr(os, "unlink", refuse)
    one.file.remove()

    assert lines_of(caplog) == [f"unix://{one.path}: the file stays: permission denied"]

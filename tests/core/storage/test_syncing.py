"""What is written is answered in order, and not before it is safe; what could not be made so comes back."""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from producer_pool.storage import syncing as module
from producer_pool.storage.syncing import Call, LogFile, Syncer
from support.waiting import BOUND, eventually


class Disk:
    """Syncs when it is told to, or fails."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.error: OSError | None = None
        self.syncs = 0
        patch.setattr(module, "sync_data", self._sync)

    def _sync(self, fd: int) -> None:
        assert self.go_on.wait(BOUND)
        self.syncs += 1
        if self.error is not None:
            raise self.error


class Out:
    """What went out, and on which thread."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.failures = 0
        self.syncer = Syncer("sync", self._send, self._failed)

    def _send(self, calls: Sequence[Call]) -> None:
        self.threads.add(threading.current_thread())
        for call in calls:
            call()

    def _failed(self) -> None:
        self.failures += 1

    def word(self, text: str) -> Call:
        return lambda: self.said.append(text)

    def answer(self, text: str, log: LogFile | None = None) -> None:
        self.syncer.answer([self.word(text)], log)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    path = tmp_path / "log"
    path.touch()
    log = LogFile(path)
    yield log
    log.close()


@pytest.fixture
def out(disk: Disk) -> Iterator[Out]:
    out = Out()
    yield out
    disk.go_on.set()
    out.syncer.end()


def test_nothing_to_wait_for(out: Out) -> None:
    """It goes out at once, and costs no thread."""
    out.answer("one")

    assert out.said == ["one"]
    assert out.threads == {threading.current_thread()}
    assert not out.syncer.busy


def test_what_is_not_safe_is_not_said(out: Out, disk: Disk, log: LogFile) -> None:
    """Nor what comes behind it, which needs no disk: all goes out in its order."""
    out.answer("one", log)
    out.answer("two")
    out.answer("three", log)
    assert out.syncer.busy
    assert out.said == []

    disk.go_on.set()
    out.syncer.wait()

    assert out.said == ["one", "two", "three"]
    assert disk.syncs == 2
    assert not out.syncer.busy


def test_waiting_for_some(out: Out, disk: Disk, log: LogFile) -> None:
    """Until no more than so many are on their way."""
    out.answer("one", log)
    out.syncer.wait(1)
    out.answer("two", log)
    ended = threading.Event()

    def wait() -> None:
        out.syncer.wait(1)
        ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not ended.wait(0.05)
    disk.go_on.set()
    waiting.join(BOUND)

    assert ended.is_set()
    assert "one" in out.said


def test_what_could_not_be_synced_comes_back(out: Out, disk: Disk, log: LogFile) -> None:
    """With all that came behind it, and with where and why; then it goes on."""
    disk.error = OSError(errno.EIO, "Input/output error")
    out.answer("one", log)
    out.answer("two", log)
    out.answer("three")
    disk.go_on.set()
    eventually(lambda: out.failures > 0, "it says that it failed")
    disk.error = None
    out.answer("four", log)

    unsafe = out.syncer.unsafe()

    assert unsafe is not None
    assert (unsafe.log, unsafe.error.errno) == (log, errno.EIO)
    assert out.said == []
    for call in unsafe.calls:
        call()
    assert out.said == ["one", "two", "three", "four"]
    assert disk.syncs == 1
    assert out.syncer.unsafe() is None
    out.answer("five", log)
    out.syncer.wait()
    assert out.said[-1] == "five"


def test_log_that_is_closed(log: LogFile, disk: Disk) -> None:
    """Nobody is told that it is safe: what is in it may be in no database any more."""
    disk.go_on.set()
    log.sync()
    fd = log._fd
    assert fd is not None
    log.close()

    with pytest.raises(OSError, match="was closed before it was synced"):
        log.sync()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_log_is_not_closed_under_a_sync(log: LogFile, disk: Disk) -> None:
    """Its number could be another file's, which would be synced instead."""
    syncing = threading.Thread(target=log.sync)
    syncing.start()
    eventually(lambda: log._fd is not None, "it syncs")
    fd = log._fd
    assert fd is not None
    closing = threading.Thread(target=log.close)
    closing.start()
    closing.join(0.05)
    os.fstat(fd)
    disk.go_on.set()
    for thread in (syncing, closing):
        thread.join(BOUND)

    assert disk.syncs == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)

"""The thread that writes dead letters: nobody waits for its disk, and it waits for no reader."""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected, SendError, StorageError
from producer_pool.model.framing import LINES
from producer_pool.model.given_up import GivenUp
from producer_pool.model.outcomes import Outcome
from producer_pool.storage import dead_letters_writer
from producer_pool.storage.dead_letters import FILE, LetterFile
from producer_pool.storage.dead_letters_writer import LetterWriter
from support.letters import lines_in, messages_in
from support.streams import until
from support.waiting import BOUND

NO = Rejected("no")


def given_up(*messages: bytes, error: DeliveryError = NO, indexes: Sequence[int] | None = None) -> GivenUp:
    batch = Batch.of(messages, origin="tcp://127.0.0.1:5")
    chosen = range(len(messages)) if indexes is None else indexes
    return GivenUp(batch, chosen, Outcome.FAILED, error, 3, None)


class Desk:
    """A writer, and what it said of each run of messages."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.writer = LetterWriter(folder, **options)
        self.said: list[tuple[str, bool]] = []

    def give(self, name: str, *messages: bytes, **how: Any) -> bool:
        return self.writer.take(
            "audit", "required", given_up(*messages, **how), lambda kept: self.said.append((name, kept))
        )

    async def until_said(self, count: int) -> None:
        await until(lambda: len(self.said) >= count)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "letters")
    yield desk
    await desk.writer.aclose(BOUND)


class Stuck(LetterFile):
    """A disk that hangs until it is let go."""

    go_on = threading.Event()

    def add(self, letters: Any) -> None:
        assert self.go_on.wait(2 * BOUND)
        super().add(letters)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> type[Stuck]:
    Stuck.go_on = threading.Event()
    monkeypatch.setattr(dead_letters_writer, "LetterFile", Stuck)
    return Stuck


async def test_written(desk: Desk) -> None:
    """What is said to be kept is on the disk, with all that is known of it."""
    desk.give("one", b"a", b"b", b"c", indexes=[0, 2])
    await desk.until_said(1)
    (letter,) = lines_in(desk.folder)

    assert desk.said == [("one", True)]
    assert messages_in(desk.folder) == [b"a", b"c"]
    assert (letter.producer_id, letter.role, letter.reason, letter.error) == (
        "audit",
        "required",
        "Rejected",
        "no",
    )
    assert (letter.attempts, letter.origin, letter.count, letter.nbytes) == (3, "tcp://127.0.0.1:5", 2, 2)


async def test_when(desk: Desk) -> None:
    """Times are those of the wall; the first is as long ago as the loop's clock says."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    desk.writer.take("audit", "required", given_up(b"a")._replace(accepted=now - 60), lambda kept: None)
    took = loop.time() - now
    await desk.writer.aclose(BOUND)
    (letter,) = lines_in(desk.folder)

    assert 60 - 0.001 <= letter.given_up - letter.accepted <= 60 + took + 0.001
    assert letter.given_up == letter.last > 1.6e9


async def test_one_letter_for_a_run(stuck: type[Stuck], desk: Desk) -> None:
    """What one producer gives up in a row for one reason is one letter; anything else is another one."""
    gone = SendError("gone")
    desk.writer.take("billing", "shadow", given_up(b"0"), lambda kept: None)
    for number in range(100):
        desk.give("x", b"%d" % number)
    desk.give("x", b"y", error=gone)
    desk.give("x", b"z")
    stuck.go_on.set()
    await desk.writer.aclose(BOUND)
    letters = lines_in(desk.folder)

    assert [one.count for one in letters if one.producer_id == "billing"] == [1]
    assert sum(one.count for one in letters) == 103
    # The thread may have begun with the first of them.
    assert 4 <= len(letters) <= 5
    assert messages_in(desk.folder) == [*(b"%d" % n for n in (0, *range(100))), b"y", b"z"]


async def test_wire_is_let_go_of(desk: Desk) -> None:
    """Messages that were made one by one for it are not kept with the batch."""
    batch = Batch.from_wire(b"a\nb\n", LINES)
    desk.writer.take(
        "audit", "required", GivenUp(batch, range(2), Outcome.DROPPED, NO, 0, None), lambda kept: None
    )
    await desk.writer.aclose(BOUND)

    assert batch._messages is None
    assert messages_in(desk.folder) == [b"a", b"b"]


async def test_text_that_is_none(desk: Desk) -> None:
    """Half a character in somebody's error text stops nothing."""
    desk.give("one", b"a", error=Rejected("no \udcff file" + "x" * 10_000))
    await desk.until_said(1)

    assert desk.said == [("one", True)]
    (letter,) = lines_in(desk.folder)
    assert letter.error.startswith("no \\udcff file")
    assert len(letter.error) == 4096


async def test_room(tmp_path: Path, stuck: type[Stuck]) -> None:
    """While the disk hangs, letters are taken as far as there is room, and refused beyond it."""
    desk = Desk(tmp_path, room=10_000)
    taken = [desk.give("x", b"x" * 1000) for _ in range(20)]

    assert taken == sorted(taken, reverse=True)
    assert 4 <= sum(taken) <= 9

    stuck.go_on.set()
    await desk.until_said(sum(taken))

    assert desk.give("x", b"y")

    await desk.writer.aclose(BOUND)

    assert len(messages_in(tmp_path)) == sum(taken) + 1


async def test_larger_than_all_the_room(tmp_path: Path) -> None:
    """It is taken when nothing else waits."""
    desk = Desk(tmp_path, room=1000)

    assert desk.give("large", b"x" * 5000)
    assert not desk.give("next", b"y")

    await desk.until_said(1)

    assert desk.give("next", b"y")
    await desk.writer.aclose(BOUND)
    assert len(messages_in(tmp_path)) == 2


async def test_close_writes_the_rest(desk: Desk) -> None:
    """What waits at the end is written; what comes after it is refused."""
    for number in range(10):
        desk.give("x", b"%d" % number)
    await desk.writer.aclose(BOUND)

    assert [kept for _, kept in desk.said] == [True] * 10
    assert not desk.give("late", b"late")
    assert len(messages_in(desk.folder)) == 10


async def test_close_does_not_wait_for_ever(
    tmp_path: Path, stuck: type[Stuck], caplog: pytest.LogCaptureFixture
) -> None:
    """Of a disk that hangs, the rest is given up, counted once, and logged."""
    desk = Desk(tmp_path)
    desk.give("one", b"a", b"b")
    await desk.writer.aclose(0.05)
    stuck.go_on.set()
    await until(lambda: not any(thread.name == "dead-letters" for thread in threading.enumerate()))
    await asyncio.sleep(0)

    assert desk.said == [("one", False)]
    assert "2 messages lost: not written in time" in caplog.text


class Failing(LetterFile):
    """A disk that takes nothing for a while."""

    failures = 0

    def add(self, letters: Any) -> None:
        if Failing.failures:
            Failing.failures -= 1
            raise sqlite3.OperationalError("database or disk is full")
        super().add(letters)


async def test_disk_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Letters wait and are written when it can be; the log says so once a second at the most."""
    monkeypatch.setattr(dead_letters_writer, "LetterFile", Failing)
    monkeypatch.setattr(dead_letters_writer, "AGAIN", 0.01)
    caplog.set_level(logging.INFO)
    Failing.failures = 20
    desk = Desk(tmp_path)
    began = time.monotonic()
    desk.give("one", b"a")
    await desk.until_said(1)
    seconds = time.monotonic() - began

    assert desk.said == [("one", True)]
    assert messages_in(tmp_path) == [b"a"]
    told = caplog.text.count("cannot be written: database or disk is full; 1 message left to write")
    assert 1 <= told <= 1 + seconds
    assert "are written again" in caplog.text

    await desk.writer.aclose(BOUND)


async def test_disk_that_fails_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once more, and then given up."""
    monkeypatch.setattr(dead_letters_writer, "LetterFile", Failing)
    Failing.failures = 10**6
    desk = Desk(tmp_path)
    desk.give("one", b"a")
    async with asyncio.timeout(BOUND):
        await desk.writer.aclose(math.inf)
    Failing.failures = 0

    assert desk.said == [("one", False)]


class Broken(LetterFile):
    """A defect of ours."""

    def add(self, letters: Any) -> None:
        if any(letter.count == 7 for letter, _ in letters):
            raise TypeError("a defect")
        super().add(letters)


async def test_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the letters that it concerns, and none of those that come later."""
    monkeypatch.setattr(dead_letters_writer, "LetterFile", Broken)
    desk = Desk(tmp_path)
    desk.give("seven", *[b"x"] * 7)
    await desk.until_said(1)
    desk.give("one", b"a")
    await desk.until_said(2)

    assert desk.said == [("seven", False), ("one", True)]
    await desk.writer.aclose(BOUND)


async def test_damaged_meanwhile(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The file is set aside, and nothing of what waits is lost."""
    desk.give("one", b"a")
    await desk.until_said(1)
    (desk.folder / FILE).unlink()
    (desk.folder / FILE).write_bytes(b"something else " * 1000)
    desk.give("two", b"b")
    await desk.until_said(2)

    assert desk.said == [("one", True), ("two", True)]
    assert messages_in(desk.folder) == [b"b"]
    assert (desk.folder / f"{FILE}.unreadable-1").exists()


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """It is said at the start, and not when the first message is given up."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="is no folder"):
        LetterWriter(tmp_path / "file")


async def test_never_used(tmp_path: Path) -> None:
    """Without a letter there is no thread, and nothing to close."""
    before = set(threading.enumerate())
    writer = LetterWriter(tmp_path)

    assert not set(threading.enumerate()) - before

    await writer.aclose(BOUND)
    await writer.aclose(BOUND)

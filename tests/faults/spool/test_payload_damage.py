"""
Files of payloads are damaged while nobody uses the spool, or its database is, and they are not.

It begins all the same, and nothing wrong comes out. What a damaged payload costs is that batch; what a
damaged database costs is none of those whose payloads are whole.
"""

import asyncio
import os
import random
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from producer_pool.storage import payloads, recovery
from producer_pool.storage.payload_files import PayloadFiles, payload_names
from producer_pool.storage.payloads import Payloads
from producer_pool.storage.segments import Place
from support.faults import report, times
from support.spools import Desk, copied, flip, scribble
from support.waiting import BOUND

ROWS = 24
FLIPS = times(40, 3000)
FILE = 256 * 1024
"""Bytes of a file of payloads here, so that there are several."""


def message(number: int) -> bytes:
    """Return one that is large enough for a file of payloads."""
    text = b"%06d/" % number * (2500 + number * 631 % 5000)
    return text + b"%08x" % zlib.crc32(text)


@pytest.fixture(scope="module", autouse=True)
def small_files() -> Iterator[None]:
    """Have small files of payloads, and few payloads suffice to write them."""
    whole = Payloads.keep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Payloads, "keep", lambda self, size: whole(self, FILE))
        patch.setattr(payloads, "WORTH_IT", 1)
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a spool as it is after a kill."""
    folder = tmp_path_factory.mktemp("spools")

    async def make() -> None:
        async with Desk(folder / "used") as desk:
            desk.join("a", "b")
            for number in range(1, ROWS + 1):
                await desk.stored(message(number))
            desk.store.move("a", 8)
            desk.store._hand_over_moves()
            await desk.read("a", 8)
            copied(folder / "used", folder / "killed")

    asyncio.run(make())
    assert len(payload_names(folder / "killed")) >= 3
    return folder / "killed"


def within(folder: Path, path: Path) -> list[int]:
    """Return the numbers of the messages in a file of payloads."""
    segment = next(one for one, known in payload_names(folder).items() if known == path)
    files = PayloadFiles(folder / "spool.db")
    return [record.row.number for record in files.records(segment, None)]


def opened(folder: Path) -> list[int]:
    """Open it, and return what lies there for "b". What is not there has to be told."""

    async def look() -> list[int]:
        async with asyncio.timeout(BOUND), Desk(folder) as desk:
            (backlog,) = desk.join("b")
            found = await desk.messages("b", backlog.after)
            numbers = [int(one[:6]) for one in found]
            assert [message(number) for number in numbers] == found
            assert numbers == sorted(set(numbers))
            told = sum(messages for _, messages, _ in desk.lost)
            # In front of the first that is there, whoever waits for it finds out by himself.
            assert told == numbers[-1] - numbers[0] + 1 - len(numbers) + backlog.last - numbers[-1]
            assert await desk.stored(message(ROWS + 1)) is not None
            return numbers

    return asyncio.run(look())


class Harm:
    """Does something to copies of a spool, one after the other, and keeps what it cost."""

    def __init__(self, story: str, start: Path, folder: Path) -> None:
        self._story = story
        self._start = start
        self.folder = folder / "harmed"
        self.cases = 0
        self.slowest = 0.0
        self.most = 0

    def after(self, what: str, damage: Callable[[Path], object]) -> list[int]:
        """Open a copy after *damage*, and return which messages are gone."""
        shutil.rmtree(self.folder, ignore_errors=True)
        copied(self._start, self.folder)
        damage(self.folder)
        began = time.monotonic()
        try:
            numbers = opened(self.folder)
        except Exception as error:
            raise AssertionError(f"{self._story}, {what}: {error!r}") from error
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.cases += 1
        self.most = max(self.most, ROWS - len(numbers))
        return sorted(set(range(1, ROWS + 1)) - set(numbers))

    def report(self) -> None:
        report(self._story, cases=self.cases, wrong=0, most_lost=self.most, slowest_s=self.slowest)


def test_bits(start: Path, tmp_path: Path) -> None:
    """One bit of a payload is another one: that batch is lost, is told to be, and no other one is."""
    draw = random.Random(3)
    harm = Harm("payloads: bits", start, tmp_path)
    paths = list(payload_names(start).values())
    lost = 0
    for _ in range(FLIPS):
        path = draw.choice(paths)
        offset = draw.randrange(path.stat().st_size)
        gone = harm.after(f"{path.name} at {offset}", partial(flipped, name=path.name, offset=offset))
        assert len(gone) <= 1
        lost += len(gone)
    harm.report()

    assert lost > 0


def test_ends(start: Path, tmp_path: Path) -> None:
    """A file ends too soon: what is in front of that is there, and so are all other files."""
    draw = random.Random(4)
    harm = Harm("payloads: ends", start, tmp_path)
    for path in payload_names(start).values():
        inside = within(start, path)
        for end in (0, 1, FILE - 1, *(draw.randrange(FILE) for _ in range(times(2, 200)))):
            gone = harm.after(f"{path.name} ends at {end}", partial(shortened, name=path.name, end=end))
            assert gone == inside[len(inside) - len(gone) :]
    harm.report()


def flipped(folder: Path, name: str, offset: int) -> None:
    flip(folder / name, offset)


def shortened(folder: Path, name: str, end: int) -> None:
    os.truncate(folder / name, end)


def zeroed(folder: Path, name: str) -> None:
    (folder / name).write_bytes(bytes(FILE))


def removed(folder: Path, name: str) -> None:
    (folder / name).unlink()


def swapped(folder: Path, name: str, other: str) -> None:
    (folder / name).rename(folder / "x")
    (folder / other).rename(folder / name)
    (folder / "x").rename(folder / other)


def test_files(start: Path, tmp_path: Path) -> None:
    """A file is zeroed, missing or another one: what was in it is lost, and nothing else."""
    harm = Harm("payloads: files zeroed, missing, swapped", start, tmp_path)
    paths = list(payload_names(start).values())
    for path, other in zip(paths, [*paths[1:], paths[0]], strict=True):
        inside = within(start, path)
        assert harm.after(f"{path.name} zeroed", partial(zeroed, name=path.name)) == inside
        assert harm.after(f"{path.name} missing", partial(removed, name=path.name)) == inside
        both = sorted({*inside, *within(start, other)})
        assert harm.after("swapped", partial(swapped, name=path.name, other=other.name)) == both
    harm.report()


def test_of_another_spool(start: Path, tmp_path: Path) -> None:
    """A file of another spool, which has batches of the same numbers at the same places, is not read."""
    other = tmp_path / "other"

    async def make() -> None:
        async with Desk(other) as desk:
            desk.join("b")
            for number in range(1, ROWS + 1):
                await desk.stored(message(number))
            copied(other, tmp_path / "killed")

    asyncio.run(make())
    harm = Harm("payloads: of another spool", start, tmp_path)
    for path in payload_names(start).values():
        foreign = tmp_path / "killed" / path.name

        def mixed(folder: Path, foreign: Path = foreign) -> None:
            shutil.copy(foreign, folder / foreign.name)

        assert harm.after(f"{path.name} of another spool", mixed) == within(start, path)
        aside = harm.folder / f"{path.name}.other-1"
        assert aside.read_bytes() == foreign.read_bytes()
    harm.report()


def scribbled(folder: Path, size: int, *names: str) -> None:
    for name in names:
        scribble(folder / name, size)


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_bits_of_what_is_known(start: Path, tmp_path: Path) -> None:
    """Whose payloads they are, and which are needed, is never believed wrongly: it would cost all of them."""
    closed, harmed = tmp_path / "closed", tmp_path / "harmed"
    copied(start, closed)
    whole = reopened(closed)  # What was in the log is in the database now.
    assert whole == list(range(1, ROWS + 1))
    data = (closed / "spool.db").read_bytes()
    draw = random.Random(6)
    cases = 0
    for name, size in ((b"identity", 16 + 4), (b"payloads:0", 12)):
        where = data.index(name)
        for offset in range(where, where + len(name) + size):
            for bit in draw.sample(range(8), times(1, 8)):
                shutil.rmtree(harmed, ignore_errors=True)
                copied(closed, harmed)
                flip(harmed / "spool.db", offset, 1 << bit)
                assert reopened(harmed) == whole, f"bit {bit} of {name.decode()} at {offset - where}"
                assert not list(harmed.glob("*.other-*"))
                cases += 1
    report("payloads: bits of what is known of them", cases=cases, lost=0)


BOTH = "spool.db", "spool.db-wal"
DATABASES: dict[str, Callable[[Path], object]] = {
    "head": lambda folder: scribbled(folder, 100, "spool.db"),
    "log": lambda folder: scribbled(folder, 20, "spool.db-wal"),
    "log, past recognition": lambda folder: scribbled(folder, 10_000_000, "spool.db-wal"),
    "log missing": lambda folder: without(folder, "spool.db-wal"),
    "all pages": lambda folder: scribbled(folder, 10_000_000, *BOTH),
    "missing": lambda folder: without(folder, *BOTH),
    "missing with state": lambda folder: without(folder, *BOTH, "state"),
}


@pytest.mark.parametrize("what", DATABASES)
def test_damaged_database(start: Path, tmp_path: Path, what: str) -> None:
    """Whatever became of the database, all batches come back whose payloads are whole."""
    harm = Harm(f"payloads: database damaged, {what}", start, tmp_path)
    shutil.rmtree(harm.folder, ignore_errors=True)
    copied(start, harm.folder)
    DATABASES[what](harm.folder)
    numbers = reopened(harm.folder)
    report(f"payloads: database damaged, {what}", lost=ROWS - len(numbers))

    assert numbers == list(range(1, ROWS + 1))
    assert reopened(harm.folder) == numbers


def test_damaged_database_without_heads(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where payloads do not say whose they are, a damaged database costs all of them."""
    monkeypatch.setattr(PayloadFiles, "records", lambda self, segment, identity: iter(()))
    copied(start, tmp_path / "harmed")
    DATABASES["all pages"](tmp_path / "harmed")
    numbers = reopened(tmp_path / "harmed")
    report("payloads: database damaged: without heads", lost=ROWS - len(numbers))

    assert numbers == []


def test_lost_log_and_rows_alone(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one that believes that its database knows of all costs what only its log held."""
    monkeypatch.setattr(recovery, "_take_back", lambda folder, database, positions, state: None)
    copied(start, tmp_path / "harmed")
    DATABASES["log, past recognition"](tmp_path / "harmed")
    numbers = reopened(tmp_path / "harmed")
    report("payloads: log past recognition: rows alone", lost=ROWS - len(numbers))

    assert numbers == []


def reopened(folder: Path) -> list[int]:
    """Return what lies there for "b", whatever is known about it."""

    async def look() -> list[int]:
        async with asyncio.timeout(BOUND), Desk(folder) as desk:
            (backlog,) = desk.join("b")
            found = await desk.messages("b", backlog.after)
            numbers = [int(one[:6]) for one in found]
            assert [message(number) for number in numbers] == found
            return numbers

    return asyncio.run(look())


def test_naive_one(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one that believes a place, and no head and no checksum, gives out what is wrong."""

    def believing(self: Payloads, data: object, number: int) -> bytes | None:
        place = Place.unpack(data)
        assert place is not None
        with self.files.path(place.segment).open("rb") as file:
            file.seek(place.offset)
            return file.read(place.size)[-(len(message(number)) + 4) :]

    monkeypatch.setattr(Payloads, "read", believing)
    monkeypatch.setattr("producer_pool.storage.record._checksum", lambda row: row.checksum)
    harm = Harm("payloads: naive", start, tmp_path)
    assert harm.after("nothing", lambda folder: None) == []
    with pytest.raises(AssertionError):
        harm.after("a bit", lambda folder: flip(folder / "payload-0", 5000))

"""
A spool is damaged while nobody uses it: bits, ends, whole files.

It begins all the same, in time, and nothing wrong comes out. What is lost is what was on the damaged page,
and what follows it in the log.
"""

import asyncio
import os
import random
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from producer_pool.storage.database import PAGE
from support.faults import FULL, report, times
from support.spools import Desk, copied, flip
from support.waiting import BOUND

ROWS = 24
AT_ONCE = times(6, 20)
FLIPS = times(30, 3000)
"""Places of a file in which a bit is changed; in the full run, beside these, one byte of each 64."""

LEAF = 0x0D
"""The first byte of a page with rows."""
POSITION = b"at:b[0, null, []]"
"""As the database has it that "b" is done with nothing."""

FILES = [("closed", "spool.db"), ("killed", "spool.db"), ("killed", "spool.db-wal"), ("killed", "state")]


def message(number: int) -> bytes:
    """Return one of a size of its own: some fill pages, and most do not."""
    text = b"%06d/" % number * (1 + (6000 if number % 8 == 5 else number * 7 % 90))
    return text + b"%08x" % zlib.crc32(text)


def right(one: bytes) -> bool:
    return b"%08x" % zlib.crc32(one[:-8]) == one[-8:]


@dataclass(frozen=True)
class Spools:
    """The same spool, as it was closed, and as it is after a kill."""

    closed: Path
    killed: Path


@pytest.fixture(scope="module")
def spools(tmp_path_factory: pytest.TempPathFactory) -> Spools:
    folder = tmp_path_factory.mktemp("spools")

    async def make() -> None:
        async with Desk(folder / "closed") as desk:
            desk.join("a", "b")
            for number in range(1, ROWS + 1):
                await desk.stored(message(number))
            desk.store.move("a", 8)
            desk.store._hand_over_moves()
            await desk.read("a", 8)
            copied(folder / "closed", folder / "killed")

    asyncio.run(make())
    return Spools(folder / "closed", folder / "killed")


def opened(folder: Path, known: int) -> list[int]:
    """Open it, and return what lies there for "b", which has to be in order. Numbers go on behind *known*."""

    async def look() -> list[int]:
        async with asyncio.timeout(BOUND), Desk(folder) as desk:
            backlogs = desk.join("a", "b")
            found: list[list[bytes]] = []
            for name, backlog in zip("ab", backlogs, strict=True):
                found.append(await desk.messages(name, backlog.after))
            for_a, for_b = found
            assert all(map(right, [*for_a, *for_b])), "something wrong came out"
            numbers = [int(one[:6]) for one in for_b]
            assert [message(number) for number in numbers] == for_b
            assert numbers == sorted(set(numbers))
            new = await desk.stored(b"new")
            assert new is not None
            assert new > known
            return numbers

    return asyncio.run(look())


class Harm:
    """Does the same to copies of a spool, one after the other, and keeps the worst of it."""

    def __init__(self, story: str, start: Path, folder: Path) -> None:
        self._story = story
        self._start = start
        self._folder = folder / "harmed"
        self.cases = 0
        self.slowest = 0.0
        self.lost: list[int] = []

    def after(self, what: str, damage: Callable[[Path], object], known: int = ROWS) -> list[int]:
        """Open a copy after *damage*, and return which messages are left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        copied(self._start, self._folder)
        damage(self._folder)
        began = time.monotonic()
        try:
            numbers = opened(self._folder, known)
        except Exception as error:
            raise AssertionError(f"{self._story}, {what}: {error!r}") from error
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.cases += 1
        self.lost.append(ROWS - len(numbers))
        return numbers

    def report(self) -> None:
        report(
            self._story, cases=self.cases, begun=self.cases, wrong=0,
            most_lost=max(self.lost), mean_lost=sum(self.lost) / len(self.lost), slowest_s=self.slowest,
        )  # fmt: skip


def offsets(size: int, draw: random.Random) -> Iterator[int]:
    """Yield places of a file: its head always, and others by chance; in the full run many more."""
    yield from draw.sample(range(min(size, 110)), AT_ONCE)
    yield from (draw.randrange(size) for _ in range(FLIPS))
    if FULL:
        yield from range(0, min(size, 40 * PAGE), 64)


@pytest.mark.parametrize("kind,name", FILES)
def test_bits(spools: Spools, tmp_path: Path, kind: str, name: str) -> None:
    """One bit is another one: at the most, what is on its page is lost."""
    start: Path = getattr(spools, kind)
    draw = random.Random(name)
    harm = Harm(f"spool: bits of {name}, {kind}", start, tmp_path)
    for offset in offsets((start / name).stat().st_size, draw):
        bit = 1 << draw.randrange(8)
        harm.after(f"bit {bit} of byte {offset}", partial(flipped, name=name, offset=offset, bit=bit))
    harm.report()

    # Rows share a page. What follows in the log is read as well.
    assert max(harm.lost) <= max(ROWS // 2, most_on_a_page(start / "spool.db"))
    if name == "state":
        assert max(harm.lost) == 0


def most_on_a_page(path: Path) -> int:
    """Return how many rows are on the page of a database that has most of them."""
    data = path.read_bytes()
    pages = [data[offset : offset + PAGE] for offset in range(0, len(data), PAGE)]
    return max(int.from_bytes(page[3:5], "big") for page in pages if page[0] == LEAF)


@pytest.mark.parametrize("lasting", [True, False], ids=["and-state", "alone"])
def test_bits_of_positions(spools: Spools, tmp_path: Path, lasting: bool) -> None:
    """Where a producer is, or that there is one, is never believed wrongly, with or without another copy."""
    where = (spools.closed / "spool.db").read_bytes().index(POSITION)
    draw = random.Random(5)
    harm = Harm(f"spool: bits of a position, state {'there' if lasting else 'gone'}", spools.closed, tmp_path)

    def damage(folder: Path, offset: int, bit: int) -> None:
        flip(folder / "spool.db", offset, bit)
        if not lasting:
            (folder / "state").unlink()

    # In front of the name are the sizes of the columns, and behind the value is its checksum.
    for offset in range(where - 6, where + len(POSITION) + 4):
        for bit in draw.sample(range(8), times(1, 8)):
            harm.after(f"bit {bit} of byte {offset}", partial(damage, offset=offset, bit=1 << bit))
    harm.report()

    assert max(harm.lost) == 0


@pytest.mark.parametrize("kind,name", FILES)
def test_ends(spools: Spools, tmp_path: Path, kind: str, name: str) -> None:
    """A file ends too soon, wherever that is; of the log, what is in front of that is there."""
    start: Path = getattr(spools, kind)
    size = (start / name).stat().st_size
    draw = random.Random(name)
    harm = Harm(f"spool: ends of {name}, {kind}", start, tmp_path)
    ends = {0, 1, size - 1, *(draw.randrange(size) for _ in range(times(8, 1000)))}
    for end in sorted(ends):
        numbers = harm.after(f"ends at {end}", partial(shortened, name=name, end=end))
        if name == "spool.db-wal":
            assert numbers == list(range(1, len(numbers) + 1))
        if name == "state" or (kind, name) == ("killed", "spool.db"):
            assert len(numbers) == ROWS
    harm.report()


def flipped(folder: Path, name: str, offset: int, bit: int) -> None:
    flip(folder / name, offset, bit)


def shortened(folder: Path, name: str, end: int) -> None:
    os.truncate(folder / name, end)


def zeroed(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (path := folder / name).exists():
            path.write_bytes(bytes(path.stat().st_size))


def removed(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def pages(folder: Path, draw: random.Random, count: int) -> None:
    """Overwrite pages of the log with anything."""
    path = folder / "spool.db-wal"
    for _ in range(count):
        with path.open("r+b") as file:
            file.seek(draw.randrange(max(1, path.stat().st_size // PAGE)) * PAGE)
            file.write(draw.randbytes(PAGE))


def swapped(folder: Path, one: str, other: str) -> None:
    os.rename(folder / one, folder / "x")
    os.rename(folder / other, folder / one)
    os.rename(folder / "x", folder / other)


NAMES = ("spool.db", "spool.db-wal", "state", "lock")


def test_files(spools: Spools, tmp_path: Path) -> None:
    """Files are zeroed, missing, swapped, or of another spool, one by one and together."""
    harm = Harm("spool: files zeroed, missing, swapped", spools.killed, tmp_path)
    for name in NAMES:
        harm.after(f"{name} zeroed", partial(zeroed, names=[name]))
        harm.after(f"{name} missing", partial(removed, names=[name]))
    harm.after("all zeroed", partial(zeroed, names=NAMES), known=0)
    harm.after("all missing", partial(removed, names=NAMES), known=0)
    harm.after("swapped", partial(swapped, one="spool.db", other="spool.db-wal"))
    harm.after("swapped with state", partial(swapped, one="spool.db", other="state"), known=0)

    def another(folder: Path) -> None:
        shutil.copy(spools.closed / "spool.db", folder / "spool.db")

    harm.after("the database of another moment", another)
    draw = random.Random(7)
    for count in range(1, times(4, 60)):
        harm.after(f"{count} pages", partial(pages, draw=draw, count=count))
    harm.report()

    assert harm.lost[0] == 0  # all of it was in the log


class Naive:
    """The control: lines in a file, read as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, messages: Sequence[bytes]) -> None:
        self.path.write_bytes(b"".join(one + b"\n" for one in messages))

    def read(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n")[:-1]


def test_naive_one(tmp_path: Path) -> None:
    """The control, a file of lines, gives out what is wrong, and loses the last one without a word."""
    spool = Naive(tmp_path / "lines")
    whole = [message(number) for number in range(1, ROWS + 1)]
    draw = random.Random(1)
    wrong = 0
    for _ in range(FLIPS):
        spool.write(whole)
        flip(spool.path, draw.randrange(spool.path.stat().st_size), 1 << draw.randrange(8))
        wrong += not all(map(right, spool.read()))
    spool.write(whole)
    os.truncate(spool.path, spool.path.stat().st_size - 1)
    report("spool: bits of a file of lines: naive", cases=FLIPS, wrong=wrong)

    assert wrong > 0
    assert len(spool.read()) == ROWS - 1

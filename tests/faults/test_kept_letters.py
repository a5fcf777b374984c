"""
Dead letters under fault: what was said to be kept is there.

Each message that is given up is numbered and checked; how many are said to be kept stands in memory that a
kill cannot take away. The same oracle is asked about ways of keeping letters that are naive on purpose.
"""

import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from producer_pool.model.framing import LENGTH4
from producer_pool.storage.dead_letters import FILE, LetterFile
from support.faults import needs_mounts, report, times
from support.keepers import found, keeper
from support.letters import letter, messages_in, stored
from support.waiting import eventually, steady

# -- kill -9 while letters are written --------------------------------------------------------------


def kill_often(kind: str, folder: Path, kills: int) -> tuple[int, int]:
    """Kill it in the middle so often, on one folder; return how many were said to be kept, and are not."""
    said = lost = 0
    for cycle in range(kills):
        with keeper(kind, folder, cycle) as running:
            running.wait_for(random.randrange(1, 3000))
            kept = running.kill()
        numbers = found(kind, folder).get(cycle, [])

        # In order, without a gap and none twice: what was said to be kept are the first of them.
        assert numbers == list(range(len(numbers)))
        said += kept
        lost += max(kept - len(numbers), 0)
    return said, lost


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """Nothing that was said to be kept is lost, whole letters are there, and the next run goes on at once."""
    kills = times(4, 100)
    said, lost = kill_often("product", tmp_path / "letters", kills)
    report("killed while it writes dead letters", kills=kills, said=said, lost=lost)

    assert lost == 0
    assert said > kills


def test_control_that_is_killed(tmp_path: Path) -> None:
    """Who takes what it has written for kept loses what its own buffer held."""
    kills = times(2, 10)
    said, lost = kill_often("naive", tmp_path / "letters", kills)
    report("killed while it writes dead letters, control: buffered", kills=kills, said=said, lost=lost)

    assert lost > 0


# -- a disk without room ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 512 KiB, most of it taken by one file."""
    needs_mounts()
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", disk], check=True)
    try:
        (disk / "filler").write_bytes(bytes(256 * 1024))
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def until_full(disk: Path) -> None:
    eventually(lambda: os.statvfs(disk).f_bavail < 24, "a full disk")


def test_full_disk(small_disk: Path) -> None:
    """While there is no room nothing is said to be kept that is not; with room, it goes on within 5 s."""
    folder = small_disk / "letters"
    with keeper("product", folder) as running:
        running.wait_for(100)
        before = steady(lambda: running.kept, 1.0, "a disk that takes nothing more")
        (small_disk / "filler").unlink()
        began = time.monotonic()
        running.wait_for(before + 1)
        recovered = time.monotonic() - began
        kept = running.kill()
    numbers = found("product", folder)[0]
    report("full disk under dead letters", said=kept, there=len(numbers), recovered_s=recovered)

    # What found no room at all is lost and counted; so numbers may be missing behind those said to be kept.
    assert len(numbers) >= kept
    assert len(set(numbers)) == len(numbers)
    assert recovered < times(50, 5)


def test_control_with_a_full_disk(small_disk: Path) -> None:
    """Who does not look at what the disk says keeps less than it says."""
    folder = small_disk / "letters"
    with keeper("careless", folder) as running:
        until_full(small_disk)
        running.wait_for(running.kept + 20_000)
        kept = running.kill()
    numbers = found("careless", folder)[0]
    report("full disk under dead letters, control: careless", said=kept, there=len(numbers))

    assert len(numbers) < kept


# -- damage -----------------------------------------------------------------------------------------

MESSAGES = [b"%05d " % number * (1 + number % 40) for number in range(400)]


def damaged(folder: Path, rng: random.Random) -> None:
    """Damage the file of *folder* as disks and people do."""
    path = folder / FILE
    data = bytearray(path.read_bytes())
    kind = rng.choice(["bits", "bits", "bits", "page", "cut", "zeros"])
    if kind == "bits":
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "page":
        start = rng.randrange(len(data)) // 4096 * 4096
        data[start : start + 4096] = rng.randbytes(4096)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    else:
        start = rng.randrange(len(data)) // 4096 * 4096
        data[start:] = bytes(len(data) - start)
    path.write_bytes(data)


@pytest.fixture
def original(tmp_path: Path) -> bytes:
    """Return the file of a folder with all MESSAGES, ten a letter."""
    with LetterFile(tmp_path / "original") as file:
        file.add([letter(*MESSAGES[start : start + 10]) for start in range(0, len(MESSAGES), 10)])
    return (tmp_path / "original" / FILE).read_bytes()


def test_damage(tmp_path: Path, original: bytes) -> None:
    """It goes on at once, gives out nothing wrong, and loses no more than it has to of what is damaged."""
    rounds = times(60, 3000)
    rng = random.Random(20261125)
    known = set(MESSAGES)
    kept = 0
    for number in range(rounds):
        folder = tmp_path / f"damaged-{number}"
        folder.mkdir()
        (folder / FILE).write_bytes(original)
        damaged(folder, rng)
        with LetterFile(folder) as file:
            file.add([letter(b"new")])
            there = [message for messages in stored(file) if messages for message in messages]

        assert there.count(b"new") == 1, number
        assert len(there) == len(set(there)), number
        assert set(there) <= known | {b"new"}, number
        kept += len(there) - 1
    share = kept / rounds / len(MESSAGES)
    report("damage to dead letters", rounds=rounds, kept_share=share, wrong=0)

    assert share > 0.5


def test_control_with_damage(tmp_path: Path, original: bytes) -> None:
    """Who believes what the file says gives out wrong messages, or stops."""
    rng = random.Random(20261125)
    known = set(MESSAGES)
    wrong = stopped = 0
    rounds = times(60, 300)
    for _ in range(rounds):
        path = tmp_path / FILE
        path.write_bytes(original)
        damaged(tmp_path, rng)
        try:
            with closing(sqlite3.connect(path)) as connection:
                payloads = [row[0] for row in connection.execute("SELECT payload FROM letters")]
            there = [message for payload in payloads for message in LENGTH4.split(payload)]
        except Exception:
            stopped += 1
        else:
            wrong += not set(there) <= known
        path.unlink(missing_ok=True)
    report("damage to dead letters, control: believes the file", rounds=rounds, wrong=wrong, stopped=stopped)

    assert wrong > 0
    assert stopped > 0


def test_messages_are_the_oracle(tmp_path: Path, original: bytes) -> None:
    """Without damage, all of them are there: what the stories above miss is the damage's work."""
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / FILE).write_bytes(original)

    assert messages_in(tmp_path / "again") == MESSAGES

"""Programs that keep dead letters, well and badly, and are killed while they do."""

import json
import mmap
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.letters import messages_in
from support.processes import clean_environment
from support.waiting import eventually

__all__ = ["KINDS", "Keeper", "found", "keeper"]

PROGRAM: Final = '''
"""Give up one numbered message after the other, and write down how many are said to be kept."""
import asyncio, json, mmap, struct, sys
from producer_pool import AsyncProducerPool, ConnectError, DeliveryPolicy
from producer_pool.plugin import Client

kind, folder, board, cycle = sys.argv[1:]


class Away(Client):
    protocol_name = address = "away"

    async def connect(self):
        raise ConnectError("away: nobody there")

    async def send(self, message):
        raise AssertionError


class Naive:
    """Says that a letter is kept when it was written: to a buffer of its own process."""

    def __init__(self, place):
        self.file = open(f"{place}.naive", "a")

    def take(self, given_up, done):
        for index in given_up.indexes:
            self.file.write(json.dumps(given_up.batch.messages[index].decode()) + "\\n")
        asyncio.get_running_loop().call_soon(done, True)
        return True


class Careless(Naive):
    """The same, and takes a disk that is full for one that will have room when it is flushed."""

    def take(self, given_up, done):
        super().take(given_up, done)
        try:
            self.file.flush()
        except OSError:
            pass
        return True


async def main():
    with open(board, "r+b") as opened:
        shared = mmap.mmap(opened.fileno(), 8)
    dead_letters = folder if kind == "product" else None
    async with AsyncProducerPool(policy=DeliveryPolicy(deadline=0.01, dead_letters=dead_letters)) as pool:
        await pool.add_producer("audit", Away())
        if kind != "product":
            wrong = {"naive": Naive, "careless": Careless}[kind]
            pool.engine._producers["audit"].outbox.accounts.letters = wrong(folder)
        number = 0
        while True:
            for _ in range(50):
                await pool.submit(f"{cycle} {number} {number * 7919 % 10007}")
                number += 1
            await asyncio.sleep(0.001)
            stats = (await pool.stats()).producers["audit"]
            shared[:8] = struct.pack("q", stats.dead_lettered)


asyncio.run(main())
'''

KINDS: Final = ("product", "naive", "careless")


class Keeper:
    """One run of the program."""

    def __init__(self, process: "subprocess.Popen[bytes]", board: mmap.mmap) -> None:
        self._process = process
        self._board = board

    @property
    def kept(self) -> int:
        """How many messages it has said that it keeps: the first ones, in their order."""
        return int(struct.unpack("q", self._board[:8])[0])

    def wait_for(self, count: int) -> None:
        """Wait until so many are said to be kept."""

        def look() -> bool:
            assert self._process.poll() is None, "the program ended"
            return self.kept >= count

        eventually(look, f"{count} messages are said to be kept")

    def kill(self) -> int:
        """Kill it in the middle of whatever it does, and return how many it had said that it keeps."""
        self._process.kill()
        self._process.wait()
        return self.kept


@contextmanager
def keeper(kind: str, folder: Path, cycle: int = 0) -> Iterator[Keeper]:
    """Run the program with letters in *folder*; what it says is in memory that outlives it."""
    path = folder.with_name(f"board-{random.getrandbits(64):x}")
    path.write_bytes(bytes(8))
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as board:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, kind, str(folder), str(path), str(cycle)],
            env=clean_environment(),
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Keeper(process, board)
        finally:
            process.kill()
            process.wait()


def found(kind: str, folder: Path) -> dict[int, list[int]]:
    """Return the numbers of the messages in *folder* by cycle, in their order; each of them is whole."""
    if kind == "product":
        texts = [message.decode() for message in messages_in(folder)]
    else:
        # Whoever writes lines himself has to live with half of one at the end.
        lines = folder.with_name(f"{folder.name}.naive").read_text().split("\n")
        texts = [json.loads(line) for line in lines[:-1] if re.fullmatch(r'"[0-9 ]+"', line)]
    cycles: dict[int, list[int]] = {}
    for text in texts:
        cycle, number, check = map(int, text.split())
        assert check == number * 7919 % 10007, text
        cycles.setdefault(cycle, []).append(number)
    return cycles

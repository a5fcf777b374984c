"""A spool with payloads in files of their own, through anything in any order: what is waited for is there."""

import math
import random
import shutil
from pathlib import Path

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from support.apart import FILE, put_apart, sizes
from support.faults import times
from support.keeping import Clock
from support.keeping import put_batches as put
from support.spools import scribble


class Story:
    """A keeper, and what has to be in it."""

    def __init__(self, folder: Path, draw: random.Random, clock: Clock) -> None:
        self._folder = folder
        self._draw = draw
        self._clock = clock
        self._sync = draw.choice([0.0, 0.05, math.inf])
        self._last = 0
        self._stored: dict[int, int] = {}
        """Which numbers, and how large."""
        self._at = {"a": 0, "b": 0}
        self._open()

    def _open(self) -> None:
        folder = Folder(self._folder)
        folder.make()
        self.keeper = Keeper(folder, Spool(self._folder, sync=self._sync))
        for name in self._at:
            self.keeper.join(name, self._last)

    def store(self) -> None:
        """Store a group of any sizes."""
        wanted = [
            self._draw.choice([10, 3000, 9000, 20_000, FILE]) for _ in range(self._draw.choice([1, 5, 30]))
        ]
        first = self._last + 1
        assert put(self.keeper, first, wanted)
        self._last += len(wanted)
        self._stored.update(enumerate(wanted, first))

    def move(self) -> None:
        """Have one of them, or both, be done with more."""
        for name in self._draw.choice(["a", "b", "ab", "ab"]):
            self._at[name] = self._draw.randint(self._at[name], self._last)
            self.keeper.move(name, self._at[name])

    def write(self) -> None:
        """Have it written where they are."""
        self.keeper.move_on()

    def wait(self) -> None:
        """Let time pass, until what was to be done is done."""
        for _ in range(5):
            if (due := self.keeper.due()) is not None:
                self._clock.now = max(self._clock.now, due)
                self.keeper.tick(self._clock.now)

    def restart(self) -> None:
        """Close it, and open it again."""
        self.keeper.close()
        self._open()

    def kill(self) -> None:
        """Go on with what a kill leaves, in the place of it."""
        self.keeper.move_on()
        copy = self._folder.with_name("copy")
        shutil.copytree(self._folder, copy, ignore=shutil.ignore_patterns("reserve"))
        self.keeper.close()
        shutil.rmtree(self._folder)
        copy.rename(self._folder)
        self._open()

    def damage(self) -> None:
        """Have the database read out, which costs nothing that lies apart, and nothing of the rest."""
        self.keeper.close()
        scribble(self._folder / "spool.db", 40)
        self._open()

    def look(self) -> None:
        """See that all is there that is waited for, for each of them."""
        for name, after in self._at.items():
            found = self.keeper.read(name, after, 1 << 40)
            assert found is not None
            batches, _, lost = found
            assert lost.messages == 0
            expected = [number for number in self._stored if number > after]
            assert [one.number for one in batches] == expected
            for one in batches:
                (message,) = one.batch
                assert message == b"%06d" % one.number * (self._stored[one.number] // 6 + 1)


@pytest.mark.parametrize("seed", range(times(12, 1000)))
def test_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, seed: int) -> None:
    """Whatever happens, in whatever order; and when nobody waits for anything, it takes no room."""
    put_apart(monkeypatch)
    draw = random.Random(seed)
    story = Story(tmp_path / "spool", draw, clock)
    steps = (
        [story.store] * 6
        + [story.move] * 4
        + [story.write, story.wait, story.restart, story.kill, story.damage]
    )
    for _ in range(40):
        draw.choice(steps)()
        story.look()
    story.keeper.move("a", 10**6)
    story.keeper.move("b", 10**6)
    story.keeper.close()

    assert sizes(tmp_path / "spool") == {}

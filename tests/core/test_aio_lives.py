"""Any number of lives of a pool with a store: no crash loses what is stored, whatever else happens."""

from collections.abc import Callable, Iterable

import pytest

from producer_pool.delivery.cursor import Cursor
from producer_pool.delivery.incoming import Incoming
from producer_pool.delivery.lane import Lane
from producer_pool.delivery.page import Page
from producer_pool.delivery.reader import Reader
from producer_pool.delivery.writeahead import WriteAhead
from producer_pool.testing import in_virtual_time
from support.lives import Lives
from support.seeds import block_of, kept, run_seeds

pytestmark = pytest.mark.usefixtures("no_log")

SEEDS = 2000
BLOCKS = 16
"""Seeds are run in so many tests, for as many processors."""


@in_virtual_time
async def run(seed: int) -> None:
    await Lives(seed).run()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_lives(block: int) -> None:
    """
    Conservation at every step; what was stored comes, in order; nothing comes that was not stored first.

    But for what a rule gave up, and what was damaged: that is told.
    """
    run_seeds("lives", run, block_of(block, BLOCKS, SEEDS))


def test_lives_that_once_failed() -> None:
    """They are run each time."""
    run_seeds("lives", run, kept("lives"))


def run_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(seed)


# -- controls: lanes that are wrong in one way ---------------------------------------------------------


def moves_when_handed_over(patch: pytest.MonkeyPatch) -> None:
    """The cursor follows what was handed over, as if a write were a delivery."""

    def move(self: Cursor) -> None:
        if self.handed > self._at:
            self._at = self.handed
            self._move(self.handed)

    patch.setattr(Cursor, "move", move)


def overtakes(patch: pytest.MonkeyPatch) -> None:
    """A new batch goes out at once, though older ones lie on the disk."""
    arrive = Lane.arrive

    def impatient(self: Lane, incoming: Incoming, number: int) -> None:
        behind, self.behind = self.behind, False
        arrive(self, incoming, number)
        self.behind = self.behind or behind

    patch.setattr(Lane, "arrive", impatient)


def forwards_first(patch: pytest.MonkeyPatch) -> None:
    """A batch goes out before it is stored."""
    take = WriteAhead.take

    def eager(self: WriteAhead, page: Page) -> None:
        batch = page.batch
        assert batch is not None
        for producer in self._engine._producers.values():
            early = Page(None, (producer.id,), tracked=False)
            early.open(self._engine.budget, batch)
            producer.offer(early, self._loop.time())
        take(self, page)

    patch.setattr(WriteAhead, "take", eager)


def forgets_what_it_read(patch: pytest.MonkeyPatch) -> None:
    """What was read back and had no room is passed over."""
    looked = Reader._looked

    def careless(self: Reader, upto: int) -> None:
        looked(self, self._lane.last if self.next_cost else upto)

    patch.setattr(Reader, "_looked", careless)


def counts_what_is_cancelled(patch: pytest.MonkeyPatch) -> None:
    """At the end, what is cancelled counts as settled, and is not kept."""

    def never(self: Cursor, yes: bool) -> None:
        return None

    patch.setattr(Cursor, "keeps", property(lambda self: False, never), raising=False)


@pytest.mark.parametrize(
    "sabotage",
    [moves_when_handed_over, overtakes, forwards_first, forgets_what_it_read, counts_what_is_cancelled],
)
def test_wrong_lane_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story by chance that finds no fault in these would find none at all."""
    sabotage(monkeypatch)

    with pytest.raises(AssertionError):
        run_all(range(SEEDS))

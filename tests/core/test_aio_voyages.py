"""Any number of days of small batches for streams: all that happens to a convoy, and what is true of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from producer_pool.contract.stream import Stream
from producer_pool.delivery.convoy import Convoy, Odd
from producer_pool.delivery.link import Link
from producer_pool.delivery.page import Page
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.testing import run_in_virtual_time
from support.seeds import block_of, kept, run_seeds
from support.streaming import no_longer_watched
from support.voyages import Voyage

pytestmark = pytest.mark.usefixtures("no_log")

SEEDS = 500
BLOCKS = 8
"""Seeds are run in so many tests, for as many processors."""


def sail(seed: int) -> int:
    """Run one, and return how many sends of it went past the outboxes."""

    async def story() -> int:
        no_longer_watched()  # A control that failed left what it watched.
        voyage = Voyage(seed)
        stats = await voyage.live()
        await voyage.judge(stats)
        voyage.judge_order()
        return voyage.streamed

    return run_in_virtual_time(story)


def run(seed: int) -> None:
    sail(seed)


def run_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        run(seed)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_voyages(block: int) -> None:
    """Conservation at every step, one outcome each and a true one, order; nothing cut, or for nobody."""
    run_seeds("voyages", run, block_of(block, BLOCKS, SEEDS))


def test_voyages_that_once_failed() -> None:
    """They are run each time."""
    run_seeds("voyages", run, kept("voyages"))


def test_voyages_are_of_convoys() -> None:
    """The control of the story: much of what it tells is sent past the outboxes."""
    streamed = [sail(seed) for seed in range(50)]

    assert sum(map(bool, streamed)) > 30
    assert sum(streamed) > 50 * 10


# -- controls: convoys that are wrong in one way -------------------------------------------------------


def takes_a_write_for_a_delivery(patch: pytest.MonkeyPatch) -> None:
    """It does not ask how far a consumer is."""

    def believe(self: Convoy, member: Any) -> None:
        count = self._messages - member.passed[1]
        member.done, member.passed = len(self._flights), (self._end, self._messages)
        member.link.passes(count)

    patch.setattr(Convoy, "_settle", believe)


def forgets_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    """A member that leaves takes nothing with it."""
    part = Convoy._part

    def careless(self: Convoy, producer: Producer) -> None:
        self._settle(self._members[producer])
        self._members[producer].done = len(self._flights)
        part(self, producer)

    patch.setattr(Convoy, "_part", careless)


def does_not_look_for_ends(patch: pytest.MonkeyPatch) -> None:
    """It writes into connections that are closed."""
    take = Convoy.take

    def hasty(self: Convoy, batch: Batch, producers: Mapping[str, Producer]) -> bool:
        self._ended = bool
        return take(self, batch, producers)

    patch.setattr(Convoy, "take", hasty)


def overtakes(patch: pytest.MonkeyPatch) -> None:
    """It takes on producers for which something waits, such as the rest of a message."""

    def stream(self: Link) -> Stream | None:
        return self._stream

    patch.setattr(Link, "stream", stream)


def sends_again_what_was_taken_in_part(patch: pytest.MonkeyPatch) -> None:
    """What a kernel took of a batch is forgotten: it goes the long way, whole."""
    hand_on = Convoy.hand_on

    def whole(self: Convoy, odd: Sequence[Odd], page: Page, batch: Batch, now: float) -> list[str]:
        nothing = [(one, 0 if isinstance(sent, int) else sent) for one, sent in odd]
        return hand_on(self, nothing, page, batch, now)

    patch.setattr(Convoy, "hand_on", whole)


@pytest.mark.parametrize(
    "sabotage",
    [
        takes_a_write_for_a_delivery,
        forgets_what_is_in_flight,
        does_not_look_for_ends,
        overtakes,
        sends_again_what_was_taken_in_part,
    ],
)
def test_wrong_convoy_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story by chance that finds no fault in these would find none at all."""
    sabotage(monkeypatch)

    with pytest.raises(AssertionError):
        run_all(range(SEEDS))

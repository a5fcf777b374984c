"""What a pipelined client answers is held against its contract: each untruth is named."""

from __future__ import annotations

import asyncio

import pytest

from producer_pool.model.errors import Rejected, SendError
from producer_pool.plugin import Batch, Settled
from producer_pool.testing.handover import Handover, attach
from producer_pool.testing.rule import RuleBroken
from support.fake_clients import FakeClient, FakePipelinedClient

TWO = Batch.of([b"one", b"two"])


class Says(FakePipelinedClient):
    """A client that says what a test has it say."""

    takes: object = None
    count: Settled | None = None
    signals_inside = False

    def start(self, *args: object) -> int:
        if self.signals_inside:
            self.signals[-1].writable()
        taken = super().start(*args)  # type: ignore[arg-type]
        return taken if self.takes is None else self.takes  # type: ignore[return-value]

    def settled(self) -> Settled:
        return super().settled() if self.count is None else self.count


async def handed(client: Says) -> Handover:
    handover = Handover(client)
    client.attach(handover)
    await client.connect()
    return handover


async def test_client_that_keeps_to_its_contract() -> None:
    """What it took is counted, without the messages that were to be skipped."""
    handover = await handed(Says(room=2))

    assert handover.start([TWO, TWO], 1) == 2
    assert handover.handed == 3
    assert handover.settled() == (3, 3)
    assert handover.start([TWO]) == 0
    assert handover.handed == 3


@pytest.mark.parametrize("taken", [2, -1, True, "one", 0.5], ids=repr)
async def test_number_that_start_cannot_return(taken: object) -> None:
    """It is from 0 to as many batches as there were, and a number."""
    client = Says()
    handover = await handed(client)
    client.takes = taken
    with pytest.raises(RuleBroken, match=r"start\(\) was given 1 batches, and returned"):
        handover.start([TWO])


@pytest.mark.parametrize(
    "count,text",
    [
        (Settled(3, 0), "only 2 messages were handed over"),
        (Settled(1, 2), "more are confirmed than written"),
        (Settled(1, 1), "it never goes back"),
        (Settled(2, 1), "it never goes back"),
    ],
)
async def test_count_that_cannot_be(count: Settled, text: str) -> None:
    """It lies between nothing and all, and only rises."""
    client = Says()
    handover = await handed(client)
    handover.start([TWO])
    client.count = count
    with pytest.raises(RuleBroken, match=text):
        handover.settled()


async def test_signal_inside_start() -> None:
    """Whoever calls start() is in the middle of something."""
    client = Says()
    handover = await handed(client)
    client.signals_inside = True
    with pytest.raises(RuleBroken, match=r"writable\(\) was called inside start\(\)"):
        handover.start([TWO])


async def test_signals_without_a_reason() -> None:
    """Nothing was broken, and nothing could not be carried."""
    broken = await handed(Says())
    broken.broken(SendError("gone"))
    with pytest.raises(RuleBroken, match="nothing was broken: gone"):
        await broken.told()
    rejected = await handed(Says())
    rejected.rejected(0, Rejected("never"))
    with pytest.raises(RuleBroken, match="what can be carried: never"):
        await rejected.told()


async def test_told_of_room() -> None:
    """A signal since the last start() is waited for, or is there already."""
    client = Says(room=0)
    handover = await handed(client)
    handover.start([TWO])
    telling = asyncio.create_task(handover.told())
    await asyncio.sleep(0)

    assert not telling.done()
    client.make_room(1)
    await telling
    await handover.told()


async def test_client_without_signals() -> None:
    """A plain one has nobody to tell."""
    plain, pipelined = FakeClient(), FakePipelinedClient()
    attach(plain)
    attach(pipelined)

    assert len(pipelined.signals) == 1

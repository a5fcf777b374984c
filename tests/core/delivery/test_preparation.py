"""Stages, and messages that a client can never carry: each message of a batch is accounted for."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer_pool.contract.ports import Stage
from producer_pool.delivery.preparation import pieces
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Filtered, Rejected
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient
from support.offers import offer, results

FOUR = (b"0", b"1", b"2", b"3")
DELIVERED, DROPPED, FAILED = Outcome.DELIVERED, Outcome.DROPPED, Outcome.FAILED


def without(*indexes: int) -> Stage:
    return lambda batch: batch.select([index for index in range(len(batch)) if index not in indexes])


def louder(batch: Batch) -> Batch:
    return batch.replace([message + b"!" for message in batch])


def raises(error: BaseException) -> Stage:
    def stage(batch: Batch) -> Batch:
        raise error

    return stage


async def outcomes(producer: Producer, *messages: bytes) -> list[ForwardResult]:
    found = await results(offer(producer, *messages))
    stats = producer.outbox.stats

    assert stats.accepted == len(messages)
    assert stats.pending == producer.outbox.pending() == 0

    return found


# -- stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [FakeClient, FakePipelinedClient])
@in_virtual_time
async def test_stages_in_a_row(client: Callable[[], FakeClient]) -> None:
    """Each gets what the one before made; what one leaves out is DROPPED, and the rest is delivered."""
    consumer = client()
    async with Producer("audit", consumer, stages=[without(1), louder, without(0)]) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [DROPPED, DROPPED, DELIVERED, DELIVERED]
        assert consumer.messages == [b"2!", b"3!"]
        assert isinstance(found[0].error, Filtered)


@pytest.mark.parametrize("stage", [lambda batch: None, lambda batch: batch.select(())])
@in_virtual_time
async def test_stage_that_removes_all(stage: Stage) -> None:
    """Nothing is sent, and no stage behind it is asked."""
    client = FakeClient()
    async with Producer("audit", client, stages=[stage, raises(ValueError("asked"))]) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [DROPPED] * 4
        assert client.connects == 0


@in_virtual_time
async def test_stage_behind_a_selection_that_makes_a_new_batch() -> None:
    """As many messages as it was given: they stand for those that it was given."""
    client = FakeClient()
    stages: list[Stage] = [without(0, 2), lambda batch: Batch.of([b"x", b"y"])]
    async with Producer("audit", client, stages=stages) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [DROPPED, DELIVERED, DROPPED, DELIVERED]
        assert client.messages == [b"x", b"y"]


@pytest.mark.parametrize(
    "stage",
    [
        lambda batch: Batch.of([b"one"]),
        lambda batch: Batch.of([b"a", b"b", b"c", b"d", b"e", b"f"]),
        lambda batch: Batch.of([b"x"] * 9).select([0, 7]),
        lambda batch: [b"0", b"1", b"2", b"3"],
        lambda batch: b"0123",
        lambda batch: 4,
        lambda: None,
        raises(ValueError("odd")),
        raises(SystemExit(3)),
        raises(asyncio.CancelledError()),
    ],
    ids=["fewer", "more", "others", "list", "bytes", "int", "no arguments", "error", "exit", "cancelled"],
)
@pytest.mark.parametrize("first", [(), (1,)], ids=["alone", "behind another"])
@in_virtual_time
async def test_stage_at_fault(stage: Any, first: tuple[int, ...]) -> None:
    """All that it was given has FAILED, nothing of it is sent, and the next batch is taken as ever."""
    faulty = True
    client = FakeClient()
    stages: list[Stage] = [without(*first), lambda batch: stage(batch) if faulty else batch]
    async with Producer("audit", client, stages=stages) as producer:
        found = await outcomes(producer, *FOUR)
        faulty = False

        assert [result.outcome for result in found] == [DROPPED if i in first else FAILED for i in range(4)]
        assert client.messages == []
        assert "a stage raised" in str(found[0].error)


@in_virtual_time
async def test_stage_that_fails_often(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is logged once a second."""
    async with Producer("audit", FakeClient(), stages=[raises(ValueError("odd"))]) as producer:
        for _ in range(20):
            offer(producer, b"x")
            await asyncio.sleep(0.1)

    assert 2 <= caplog.text.count("Traceback") <= 3


# -- misfits ---------------------------------------------------------------------------------------


class Picky(FakeClient):
    """Says of a batch what a test has it say."""

    def __init__(self, answer: Callable[[Batch], Any]) -> None:
        super().__init__()
        self.answer = answer

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        return self.answer(batch)  # type: ignore[no-any-return]


@in_virtual_time
async def test_misfits() -> None:
    """Each fails with its own reason, and the rest goes on."""
    client = Picky(lambda batch: {0: Rejected("no 0"), 3: Rejected("no 3")} if len(batch) == 4 else {})
    async with Producer("audit", client) as producer:
        found = await outcomes(producer, *FOUR)

        assert [str(result.error) for result in found] == ["no 0", "None", "None", "no 3"]
        assert client.messages == [b"1", b"2"]


@in_virtual_time
async def test_misfits_behind_a_stage() -> None:
    """They are numbered as the client sees them, and accounted for as the program does."""
    client = Picky(lambda batch: {1: Rejected("no")})
    async with Producer("audit", client, stages=[without(0)]) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [DROPPED, DELIVERED, FAILED, DELIVERED]


@in_virtual_time
async def test_nothing_but_misfits() -> None:
    """Nothing is sent, not even an empty batch."""
    client = Picky(lambda batch: {index: Rejected("no") for index in range(len(batch))})
    async with Producer("audit", client) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [FAILED] * 4
        assert client.connects == 0


def raise_(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    "answer",
    [
        lambda batch: {4: Rejected("no")},
        lambda batch: {-1: Rejected("no")},
        lambda batch: {"0": Rejected("no")},
        lambda batch: {0: "no"},
        lambda batch: [0],
        lambda batch: 7,
        lambda batch: raise_(ValueError("odd")),
        lambda batch: raise_(SystemExit(1)),
    ],
)
@in_virtual_time
async def test_misfits_at_fault(answer: Callable[[Batch], Any]) -> None:
    """All of the batch fails, and says whose fault it is."""
    async with Producer("audit", Picky(answer)) as producer:
        found = await outcomes(producer, *FOUR)

        assert [result.outcome for result in found] == [FAILED] * 4
        assert "misfits() raised" in str(found[0].error)


@in_virtual_time
async def test_misfits_at_fault_while_connected() -> None:
    """It concerns that batch, and not the connection."""

    class Moody(FakePipelinedClient):
        mood = True

        def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
            return {} if self.mood else raise_(ValueError("odd"))

    client = Moody()
    async with Producer("audit", client) as producer:
        good = await producer.forward("x")
        client.mood = False
        bad = await producer.forward("y")
        client.mood = True
        again = await producer.forward("z")

        assert [good.ok, bad.ok, again.ok] == [True, False, True]
        assert client.connects == 1


# -- pieces ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    messages=st.lists(st.binary(max_size=90).filter(lambda message: b"\n" not in message), max_size=30),
    most=st.integers(1, 3000),
    as_wire=st.booleans(),
)
def test_pieces(messages: list[bytes], most: int, as_wire: bool) -> None:
    """They are the messages in their order, none is empty, and each fits unless it is a single message."""
    batch = Batch.of(messages)
    if as_wire:
        batch = Batch.from_wire(LINES.encode(messages), LINES, len(messages))
    cut = list(pieces(batch, most))

    assert [message for piece in cut for message in piece] == messages
    assert all(piece.cost <= most or len(piece) <= 1 for piece in cut)
    assert all(len(piece) for piece in cut) or cut == [batch]


@pytest.mark.parametrize("client", [FakeClient, FakePipelinedClient])
@in_virtual_time
async def test_batch_larger_than_the_buffer(client: Callable[[], FakeClient]) -> None:
    """What fits of it is taken and sent; only what does not is refused."""
    consumer = client()
    async with Producer("audit", consumer, DeliveryPolicy(buffer=4000)) as producer:
        await producer.check()
        found = await outcomes(producer, *[b"x" * 300] * 20)
        fates = [result.ok for result in found]

        assert fates == sorted(fates, reverse=True)
        assert sum(fates) == len(consumer.messages) >= 4

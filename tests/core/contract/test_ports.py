"""The ports: what a client of one method gets for nothing."""

import asyncio
from collections.abc import Sequence

import pytest

from producer_pool.contract.ports import Client, Intake, IntakeReceipt, Listener, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import DeliveryError, Rejected, SendError
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DEFAULT_TIMEOUT
from producer_pool.model.stats import ListenerStats


class Minimal(Client):
    """All that a client has to have."""

    def __init__(self, failures: dict[bytes, Exception] | None = None) -> None:
        self.sent: list[bytes] = []
        self._failures = failures or {}

    async def send(self, message: bytes) -> None:
        await asyncio.sleep(0)
        if failure := self._failures.get(message):
            raise failure
        self.sent.append(message)


def test_send_is_needed() -> None:
    """A client without send() cannot be made."""
    with pytest.raises(TypeError, match=r"abstract method '?send'?"):
        Client()  # type: ignore[abstract]


def test_defaults() -> None:
    """One method is enough; the rest says as little as is known."""
    client = Minimal()

    assert (client.protocol_name, client.address, client.timeout) == ("", "", DEFAULT_TIMEOUT)
    assert (client.ack, client.acks, client.max_message) == (Ack.WRITTEN, frozenset({Ack.WRITTEN}), None)
    assert repr(client) == "<Minimal >"


async def test_context_manager() -> None:
    """It connects and closes, which may be nothing to do, and be done twice."""
    client = Minimal()
    async with client as entered:
        await entered.send(b"one")
    await client.aclose()

    assert entered is client
    assert client.sent == [b"one"]


async def test_send_batch_sends_each_message() -> None:
    """In order, from a start on."""
    client = Minimal()
    await client.send_batch(Batch.of(["a", "b", "c", "d"]))
    await client.send_batch(Batch.from_wire(b"a\nb\nc\nd\n", LINES), 2)
    await client.send_batch(Batch.of([]))

    assert client.sent == [b"a", b"b", b"c", b"d", b"c", b"d"]


@pytest.mark.parametrize("start", [0, 1, 2])
async def test_send_batch_fails_in_the_middle(start: int) -> None:
    """The error says at which message, counted from the first of the batch: all before it are delivered."""
    client = Minimal({b"c": SendError("broken")})
    with pytest.raises(SendError, match="broken") as raised:
        await client.send_batch(Batch.of(["a", "b", "c", "d"]), start)

    assert raised.value.index == 2
    assert client.sent == [b"a", b"b"][start:]


async def test_send_batch_fails_in_an_unknown_way() -> None:
    """What is no DeliveryError comes through as it is."""
    client = Minimal({b"b": KeyError("oops")})
    with pytest.raises(KeyError, match="oops"):
        await client.send_batch(Batch.of(["a", "b"]))

    assert client.sent == [b"a"]


def test_errors_do_not_share_their_index() -> None:
    """An error that nobody gave an index has none."""
    SendError("x").index = 5

    assert SendError("y").index is None
    assert DeliveryError.index is None


def test_misfits_without_a_limit() -> None:
    """Everything fits, and nobody looks into the batch."""
    batch = Batch.from_wire(b"a\nb\n", LINES)

    assert Minimal().misfits(batch) == {}


@pytest.mark.parametrize("limit,misfits", [(1, {1: 2, 3: 3}), (2, {3: 3}), (3, {}), (100, {})])
@pytest.mark.parametrize(
    "batch", [Batch.of(["a", "bb", "", "ccc"]), Batch.from_wire(b"a\nbb\n\nccc\n", LINES)], ids=["of", "wire"]
)
def test_misfits_with_a_limit(batch: Batch, limit: int, misfits: dict[int, int]) -> None:
    """What is longer than max_message is Rejected, and the error says by how much; what is as long is not."""
    client = Minimal()
    client.max_message = limit
    client.protocol_name = "fifo"
    found = client.misfits(batch)

    assert {index: str(error) for index, error in found.items()} == {
        index: f"message of {size} bytes; fifo carries at most {limit}" for index, size in misfits.items()
    }
    assert all(type(error) is Rejected for error in found.values())


class Receiver(Listener):
    """A listener that only counts how often it was closed."""

    def __init__(self) -> None:
        self.stats = ListenerStats()
        self.closed = 0

    async def start(self, intake: Intake) -> Endpoint:
        raise NotImplementedError

    async def stop_accepting(self) -> None:
        raise NotImplementedError

    async def drain(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed += 1


async def test_listener_as_context_manager() -> None:
    """It is closed at the end, also by an error."""
    listener = Receiver()
    with pytest.raises(ZeroDivisionError):
        async with listener as entered:
            _ = 1 / 0

    assert entered is listener
    assert listener.closed == 1


class Collector:
    """An intake of a program's own: nothing of the engine is needed for one."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.paused = False

    def feed(self, batch: Batch) -> None:
        self.batches.append(batch)

    def accept(self, batch: Batch) -> IntakeReceipt:
        raise NotImplementedError

    async def resumed(self) -> None:
        return


def test_intake_is_a_protocol() -> None:
    """Whatever has the methods is one."""
    intake: Intake = Collector()
    intake.feed(Batch.of(["a"]))

    assert not intake.paused


def test_settled_is_two_numbers() -> None:
    """Written first, then confirmed."""
    numbers: Sequence[int] = Settled(5, 3)

    assert tuple(numbers) == (5, 3)

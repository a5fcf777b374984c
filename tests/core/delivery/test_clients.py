"""Which injected objects can be driven."""

import gc

import pytest

from producer_pool import AsyncProducerPool
from producer_pool.contract.ports import Client
from producer_pool.delivery.clients import checked_client
from producer_pool.delivery.producer import Producer
from producer_pool.model.errors import UsageError
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient


class Blocking:
    def send(self, message: bytes) -> None: ...


class HalfBlocking(FakeClient):
    def connect(self) -> None:  # type: ignore[override]
        ...


class Similar:
    async def send(self, message: bytes) -> None: ...


@pytest.mark.parametrize(
    "client,says",
    [
        (Blocking(), r"pass BlockingClient\(Blocking\(...\)\)"),
        (HalfBlocking(), "write it as 'async def connect'"),
        (Similar(), "derive it from producer_pool.Client"),
        (FakeClient, "pass an instance"),
        (object(), "object is no client, and no URL"),
        (FakeClient(timeout=0), "timeout is the seconds"),
        (FakeClient(timeout=float("inf")), "timeout is the seconds"),
        (FakeClient(timeout=None), "timeout is the seconds"),  # type: ignore[arg-type]
    ],
    ids=["blocking", "half blocking", "similar", "class", "object", "no time", "endless", "no timeout"],
)
def test_object_that_cannot_be_driven(client: object, says: str) -> None:
    """It is refused, with the way out."""
    with pytest.raises(UsageError, match=says):
        checked_client(client)


def test_object_that_can_be_driven() -> None:
    """It is returned as it is."""
    client: Client = FakeClient()

    assert checked_client(client) is client


@in_virtual_time
async def test_client_of_two_producers() -> None:
    """It belongs to the first one as long as that is not closed, and the error names it."""
    client = FakeClient()
    first = Producer("first", client)
    with pytest.raises(UsageError, match=r"this FakeClient belongs to the producer 'first': .* one for each"):
        Producer("second", client)

    assert (await first.forward("x")).ok

    await first.aclose()
    async with Producer("second", client) as second:
        assert (await second.forward("y")).ok


@in_virtual_time
async def test_client_that_a_pool_has() -> None:
    """The pool refuses it, too, and takes the id for another client then."""
    client = FakeClient()
    async with AsyncProducerPool() as pool:
        await pool.add_producer("first", client)
        with pytest.raises(UsageError, match="belongs to the producer 'first'"):
            await pool.add_producer("second", client)
        await pool.add_producer("second", FakeClient())
        await pool.remove_producer("first")
        await pool.add_producer("third", client)

        assert (await pool.forward_to_all("x")).ok
        assert client.messages == [b"x"]


def test_producer_that_nobody_has_any_more() -> None:
    """It does not keep its client from others."""
    client = FakeClient()
    Producer("forgotten", client)
    gc.collect()

    assert Producer("other", client).client is client

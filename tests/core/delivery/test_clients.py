"""Which injected objects can be driven."""

import pytest

from producer_pool.contract.ports import Client
from producer_pool.delivery.clients import checked_client
from producer_pool.model.errors import UsageError
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

"""A single Producer with an injected client, without any pool."""

from producer_pool import Ack, ClientFactory, ConnectError, DeliveryPolicy, Outcome, Producer
from support.consumers import RecordingConsumer
from support.ledger import Ledger


async def test_producer_forwards_one_message() -> None:
    """The result says to whom, how far and at which attempt; the consumer has it once."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        async with Producer("audit", ClientFactory.create(consumer.url)) as producer:
            result = await producer.forward(ledger.write())
        record = consumer.wait_for(1)

        assert (result.producer_id, result.outcome, result.ack) == ("audit", Outcome.DELIVERED, Ack.WRITTEN)
        assert result.attempts == 1
        assert ledger.judge(record).exact


async def test_producer_that_waits_for_acknowledgements() -> None:
    """It says delivered when the next hop has acknowledged, though that is no event."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        policy = DeliveryPolicy(ack=Ack.KERNEL)
        async with Producer("audit", ClientFactory.create(consumer.url), policy) as producer:
            results = [await producer.forward(message) for message in ledger.write_many(3)]
        record = consumer.wait_for(3)

        assert {result.ack for result in results} == {Ack.KERNEL}
        assert ledger.judge(record).exact


async def test_nobody_is_there() -> None:
    """Nothing is raised: the result has the error."""
    with RecordingConsumer(listens=False) as consumer:
        async with Producer("audit", ClientFactory.create(consumer.url)) as producer:
            result = await producer.forward("hello")

        assert result.outcome is Outcome.FAILED
        assert isinstance(result.error, ConnectError)

"""Plugins whose hooks, stages and observers raise anything: what they are for is missing, nothing else."""

import logging
from collections.abc import Callable

import pytest

from producer_pool import Batch, ClientFactory, DeliveryPolicy, Limits, Outcome, ProducerPool
from producer_pool.discovery.registry import Registry
from producer_pool.model.stats import Health
from producer_pool.plugin import hookimpl
from support.anything import ANYTHING, KINDS
from support.consumers import RecordingConsumer
from support.engines import check_books
from support.ledger import Ledger
from support.waiting import BOUND


class HostilePlugin:
    """Stages and observers that raise, and hooks that do."""

    def __init__(self, made: Callable[[], BaseException]) -> None:
        self._made = made
        self.calls: set[str] = set()

    def _do(self, where: str) -> None:
        self.calls.add(where)
        raise self._made()

    @hookimpl
    def producer_pool_stage(self, producer_id: str) -> Callable[[Batch], Batch]:
        """Make a stage for one producer, and fail for another."""

        def stage(batch: Batch) -> Batch:
            self._do("stage")
            return batch

        if producer_id == "odd":
            self._do("making a stage")
        if producer_id == "hostile":
            return stage
        return lambda batch: batch

    @hookimpl
    def producer_pool_observer(self) -> object:
        """Observe, and fail at it."""
        return self

    def state_changed(self, health: Health) -> None:
        self._do("state_changed")

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self._do("settled")

    @hookimpl
    def producer_pool_started(self) -> None:
        """Fail at the start."""
        self._do("started")

    @hookimpl
    def producer_pool_stopping(self) -> None:
        """Fail at the end."""
        self._do("stopping")


# An interrupt on the main thread, where some of it is called, is for the program.
@pytest.mark.parametrize("what", [what for what in KINDS if what != "KeyboardInterrupt"])
def test_plugin_that_raises(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """From hooks, stages and observers: what it was for is missing, and all else goes on to the end."""
    ledger = Ledger()
    registry = Registry()
    plugin = HostilePlugin(ANYTHING[what])
    registry.register(plugin, "hostile-plugin")
    with caplog.at_level(logging.INFO), RecordingConsumer() as consumer:
        with ProducerPool(limits=Limits(drain=1.0), factory=ClientFactory(registry)) as pool:
            pool.add_producer("well", consumer.url, policy=DeliveryPolicy.relay())
            pool.add_producer("odd", "null:")
            pool.add_producer("hostile", "null:")
            results = [pool.forward_to_all(message, wait=BOUND) for message in ledger.write_many(20)]
        stats = pool.stats()

        check_books(stats)
        assert ledger.judge(consumer.wait_for(20)).exact
        assert all(result["well"].ok and result["odd"].ok for result in results)
        assert {result["hostile"].outcome for result in results} == {Outcome.FAILED}
        assert stats.observer_errors > 0
        assert plugin.calls == {
            "stage",
            "making a stage",
            "state_changed",
            "settled",
            "started",
            "stopping",
        }
        assert "hostile-plugin" in caplog.text
        assert "HostilePlugin" in caplog.text


def tell_of_each(messages: list[bytes], observer: HostilePlugin, delivered: list[bytes]) -> None:
    """Be naive: tell an observer in the middle of a delivery."""
    for message in messages:
        delivered.append(message)
        observer.settled("well", Outcome.DELIVERED, 1)


def test_control_of_the_plugins() -> None:
    """A naive loop ends with its observer."""
    delivered: list[bytes] = []
    with pytest.raises(SystemExit):
        tell_of_each([b"one", b"two"], HostilePlugin(ANYTHING["SystemExit"]), delivered)

    assert delivered == [b"one"]

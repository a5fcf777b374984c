"""Animals whose acknowledgements mean something else."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from producer_pool.contract.ports import IntakeReceipt
from producer_pool.plugin import (
    TCP_ACKS,
    Ack,
    AckAfter,
    Batch,
    Endpoint,
    Intake,
    Settled,
    StreamListenerOptions,
)
from support.zoo.animal import animal
from support.zoo.healthy import AcknowledgedClient, PipelinedClient, ZooListener

BOTH: Any = {"client": AcknowledgedClient, "acks": TCP_ACKS | {Ack.APP}}
"""For listeners of clients that ask."""


@animal(
    "acknowledges-what-is-delivered", says=r"[1-4] messages are confirmed, and nothing was delivered", **BOTH
)
class AcknowledgesWhatItReceived(ZooListener):
    """Whatever it is asked for, it acknowledges what it has passed on."""

    def __init__(self, endpoint: Endpoint, options: StreamListenerOptions) -> None:
        super().__init__(endpoint, replace(options, ack_after=AckAfter.RECEIVED))


@animal(
    "acknowledges-what-is-delivered",
    says=r"[1-4] messages are confirmed, and nothing was delivered",
    acks=TCP_ACKS | {Ack.APP},
)
class AnswersForTheConsumer(PipelinedClient):
    """The client takes the acknowledgement of a kernel for that of the consumer."""

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.APP}


@animal(
    "keeps-back-what-failed", says=r"[12] messages are confirmed, and the first one was not delivered", **BOTH
)
class AcknowledgesWhatIsOver(ZooListener):
    """It acknowledges when a message is done, whatever came of it."""

    async def start(self, intake: Intake) -> Endpoint:
        return await super().start(Content(intake))


class Content:
    """An intake all of whose receipts say that everything was delivered, as soon as it is done."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.resumed = intake.resumed
        self.feed = intake.feed

    @property
    def paused(self) -> bool:
        return self.intake.paused

    def accept(self, batch: Batch) -> IntakeReceipt:
        receipt = self.intake.accept(batch)
        receipt.when_done(lambda: setattr(receipt, "delivered", True))
        return receipt


@animal(
    "sends-again-what-was-not-answered", says=r"messages were not sent again whose acknowledgement was lost"
)
class SettlesAllAtTheEnd(AcknowledgedClient):
    """When the connection breaks, it takes for confirmed what was written."""

    def settled(self) -> Settled:
        written, confirmed = super().settled()
        return Settled(written, written if self._lost is not None else confirmed)


@animal(
    "believes-no-false-answer", says=r"an acknowledgement that counts more than was sent ends the connection"
)
class MakesTheBestOfIt(AcknowledgedClient):
    """It takes a count above what was sent for all that was sent."""

    def _take(self, answers: Any, data: bytes) -> None:
        self._answered = max(self._answered, min(answers.feed(data), self._sent()))


@animal(
    "believes-no-false-answer", says=r"an acknowledgement that (is no number|goes back) ends the connection"
)
class IgnoresWhatItDoesNotKnow(AcknowledgedClient):
    """What is no count is skipped."""

    def received(self, data: memoryview) -> None:
        for line in bytes(data).splitlines():
            with contextlib.suppress(ValueError):
                count = int(line)
                if count <= self._sent():
                    self._answered = max(self._answered, count)
                else:
                    super().received(memoryview(line + b"\n"))

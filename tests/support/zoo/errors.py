"""Animals that raise the wrong thing, or too late."""

from __future__ import annotations

import asyncio

from producer_pool.plugin import Ack, ConnectError, SendError
from support.zoo.animal import animal
from support.zoo.handmade import AnsweredClient, AnsweringListener
from support.zoo.healthy import PlainClient


class GivesUp(BaseException):
    """What no program expects."""


@animal(
    "absent-consumer-is-a-connect-error", says=r"connect\(\) raised ConnectionRefusedError: .*, and not a"
)
class PassesOnWhatTheSystemSays(PlainClient):
    """connect() raises an OSError."""

    async def connect(self) -> None:
        await self.aclose()
        self.socket = await self.dial()


@animal(
    "absent-consumer-is-a-connect-error", says=r"connect\(\) raised SendError: .* so it is a ConnectError"
)
class TakesAbsenceForAFailure(PlainClient):
    """connect() raises a SendError."""

    async def connect(self) -> None:
        try:
            await super().connect()
        except ConnectError as error:
            raise SendError(str(error)) from error


@animal(
    "absent-consumer-is-a-connect-error",
    says=r"connect\(\) to nobody, and 200 times send\(\), raised nothing",
)
class IsNeverRefused(PlainClient):
    """Where nobody is, it pretends to send."""

    async def connect(self) -> None:
        try:
            await super().connect()
        except ConnectError:
            return

    async def send(self, message: bytes) -> None:
        if self.socket is not None:
            await super().send(message)


@animal("absent-consumer-is-a-connect-error", says=r"connect\(\) to nobody was not done after 1 s")
class TriesAgainByItself(PlainClient):
    """Where nobody is, connect() tries again, and again, before it gives up."""

    async def connect(self) -> None:
        for _ in range(4):
            try:
                await super().connect()
            except ConnectError:
                await asyncio.sleep(0.5)
            else:
                return
        raise ConnectError("after four attempts")


@animal(
    "lost-answer-is-a-send-error",
    says=r"send\(\) of a message that arrived raised ConnectError: no answer",
    listener=AnsweringListener,
    acks={Ack.APP},
)
class TakesSilenceForAbsence(AnsweredClient):
    """If the answer does not come, it says that nobody is there."""

    async def answered(self) -> None:
        try:
            await super().answered()
        except OSError:
            raise ConnectError("no answer") from None


@animal("raises-only-its-errors", says=r"raised GivesUp: the consumer is gone, and no DeliveryError")
class RaisesWhatEndsPrograms(PlainClient):
    """Where nobody is, send() raises something that is no Exception."""

    async def write(self, wire: bytes) -> None:
        try:
            await super().write(wire)
        except (ConnectError, SendError) as error:
            raise GivesUp("the consumer is gone") from error


@animal("raises-only-its-errors", says=r"raised KeyError: 'connection', and no DeliveryError")
class RaisesKeyError(PlainClient):
    """When it is not connected, send() raises a KeyError."""

    async def write(self, wire: bytes) -> None:
        if self.socket is None:
            raise KeyError("connection")
        await super().write(wire)

"""Animals that raise the wrong thing, or do not let go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from producer_pool.plugin import Batch, ConnectError, Rejected, SendError
from support.zoo.animal import animal
from support.zoo.healthy import PipelinedClient, PlainClient


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


@animal(
    "can-be-timed-out", says=r"send\(\) went on for .* s, and was cancelled after 0\.3 s: it does not let go"
)
class DoesNotLetGo(PlainClient):
    """When it is cancelled, it goes on."""

    async def write(self, wire: bytes) -> None:
        writing = asyncio.ensure_future(super().write(wire))
        while not writing.done():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                continue
        writing.result()


@animal("survives-a-misfit", says=r"a message that was Rejected broke the connection, 1 times")
class BreaksAtAMisfit(PipelinedClient):
    """A message that it cannot carry costs the connection."""

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        unfit = super().misfits(batch)
        if unfit:
            self.fail(SendError("it broke at a message that it cannot carry"))
        return unfit


@animal("survives-a-misfit", says=r"a neighbour of the misfit was not delivered: ConnectError")
class ClosesAtAMisfit(PlainClient):
    """It closes its connection when it is given a message that it cannot carry."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except Rejected:
            await self.aclose()
            raise

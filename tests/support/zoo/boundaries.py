"""Animals that alter, split, merge or lose messages, or refuse more than they have to."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from producer_pool.plugin import (
    LINES,
    Batch,
    Connection,
    Endpoint,
    FramedConnection,
    Intake,
    Rejected,
    SendError,
    Size,
    StreamListenerOptions,
    Tail,
    option,
)
from support.zoo.animal import animal
from support.zoo.healthy import PipelinedClient, PlainClient, ZooListener


@animal("keeps-boundaries", says=r"arrived in the place of .*, and nobody sent it")
class SplitsFrames(PlainClient):
    """A newline in a message is sent as it is, so that two messages arrive."""

    async def send(self, message: bytes) -> None:
        await self.write(self.framing.encode([message]))


@animal("keeps-boundaries", says=r"arrived in the place of .*, and nobody sent it")
class MergesFrames(PlainClient):
    """Messages of one batch become one message."""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        await self.send(b", ".join(batch.messages[start:]))


@animal("keeps-boundaries", says=r"arrived in the place of .*, and nobody sent it")
class StripsWhitespace(PlainClient):
    """White space around a message is taken away."""

    async def send(self, message: bytes) -> None:
        await super().send(message.strip())


@animal("keeps-boundaries", says=r"\\xef\\xbf\\xbd.* arrived in the place of")
class ReplacesWhatIsNoText(PlainClient):
    """What is not UTF-8 is replaced."""

    async def send(self, message: bytes) -> None:
        await super().send(message.decode(errors="replace").encode())


@animal("keeps-boundaries", says=r"messages did not arrive, such as")
class SwallowsMisfits(PlainClient):
    """What it cannot carry is dropped, and nobody is told."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except Rejected:
            return


@animal("keeps-boundaries", says=r"is neither carried nor Rejected: failed, SendError: no newlines")
class FailsOnMisfits(PlainClient):
    """What it cannot carry is an error that a retry should help against."""

    async def send(self, message: bytes) -> None:
        if b"\n" in message:
            raise SendError("no newlines")
        await super().send(message)


@animal("carries-empty-messages", says=r"messages did not arrive, such as b''")
class DropsEmptyMessages(PlainClient):
    """An empty message is not sent, and nobody is told."""

    async def send(self, message: bytes) -> None:
        if message:
            await super().send(message)


class WithoutEmpty:
    """An intake that gets no empty messages."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.resumed = intake.resumed

    @property
    def paused(self) -> bool:
        return self.intake.paused

    def feed(self, batch: Batch) -> None:
        self.intake.feed(Batch.of([message for message in batch if message]))


@animal("carries-empty-messages", says=r"messages did not arrive, such as b''")
class SkipsEmptyLines(ZooListener):
    """The listener skips empty lines."""

    async def start(self, intake: Intake) -> Endpoint:
        return await super().start(WithoutEmpty(intake))  # type: ignore[arg-type]


@animal("carries-64-kib", says=r"\(60000 bytes\) arrived in the place of .* \(65536 bytes\)")
class TruncatesLargeMessages(PlainClient):
    """A long message is cut off."""

    async def send(self, message: bytes) -> None:
        await super().send(message[:60_000])


@dataclass(frozen=True)
class ShortOptions(StreamListenerOptions):
    """What readers of other libraries take by default."""

    max_message: Size = option(64 * 1024 - 1, "a longer message closes its connection")


@animal("carries-64-kib", says=r"message.* did not arrive", listener_options=ShortOptions)
class RefusesLongLines(ZooListener):
    """The listener closes the connection at a long message, which no client was told of."""


@animal("carries-a-mebibyte", says=r"did not arrive|nobody sent it")
class SendsOnce(PlainClient):
    """What the kernel does not take at once is forgotten."""

    async def write(self, wire: bytes) -> None:
        assert self.socket is not None
        try:
            self.socket.send(wire)
        except BlockingIOError:
            return


@animal("refuses-too-long-messages", says=r"1025 bytes, where 1024 are allowed, was not Rejected: delivered")
class ForgetsItsLimit(PipelinedClient):
    """It takes messages that are longer than it was told to take."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.max_message = 1024 * 1024


@animal("refuses-too-long-messages", says="exactly 1024 bytes, which are allowed, was not carried")
class RefusesTheLongest(PipelinedClient):
    """Its limit is one byte lower than it was told."""

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        assert self.max_message is not None
        longest = [index for index, message in enumerate(batch) if len(message) >= self.max_message]
        return {index: Rejected("too long") for index in longest}


@animal("rejects-only-the-misfit", says=r"took another message with it: failed, Rejected: none of these")
class RejectsTheWholeBatch(PipelinedClient):
    """One message that cannot be carried, and none of its batch is."""

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        unfit = super().misfits(batch)
        return dict.fromkeys(range(len(batch)), Rejected("none of these")) if unfit else {}


@animal("rejects-only-the-misfit", says=r"the connection was lost and made anew|took another message with it")
class HangsUpOnMisfits(PlainClient):
    """A message that cannot be carried ends the connection."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except Rejected:
            await self.aclose()
            raise


class TakesReadsForMessages(FramedConnection):
    """What makes lines of each read alone."""

    def receive(self, data: bytearray, size: int, now: float) -> Batch:
        return Batch.of(bytes(data[:size]).splitlines(), received=now, origin=self.origin)


@animal("finds-messages-in-every-split", says=r"b'0' arrived in the place of b'00000000 .*nobody sent it")
class BreaksAtChunkBorders(ZooListener):
    """The listener takes what one read returned for whole messages."""

    def _connection(self, sock: socket.socket, origin: str) -> FramedConnection:
        decoder = LINES.decoder(1024 * 1024)
        return TakesReadsForMessages(sock, origin, self._loop.time(), framing=LINES, decoder=decoder)


@animal("passes-on-no-half-message", says=r"\d+ parts of messages were passed on, such as b'0")
class HandsOnHalfMessages(ZooListener):
    """The listener passes on what it has of a message when the connection ends inside it."""

    def _end(self, connection: Connection, *, clean: bool) -> None:
        part = connection.finish()
        if part is not None:
            self._intake.feed(Batch.of([part], origin=connection.origin))
        super()._end(connection, clean=clean)


@animal("passes-on-no-half-message", says=r"\d+ parts of messages were passed on, such as b'0")
class HandsOnHalfMessagesAtAnEnd(ZooListener):
    """The listener does so if the connection was closed, and not broken off."""

    def __init__(self, endpoint: Endpoint, options: StreamListenerOptions) -> None:
        super().__init__(endpoint, replace(options, tail=Tail.DELIVER))


@animal("carries-64-kib", says=r"^b'' arrived in the place of .* \(65536 bytes\)")
class CountsInTwoBytes(PlainClient):
    """Of a length, two bytes go over the wire."""

    async def send(self, message: bytes) -> None:
        await super().send(message[: len(message) & 0xFFFF])


@animal(
    "sends-batches-as-they-are", says=r"send_batch\(\) of messages \d to 11 raised Rejected with index=[0-3]:"
)
class CountsFromWhereItBegan(PlainClient):
    """Where it stopped is counted from where it began."""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        for index, message in enumerate(batch.messages[start:]):
            try:
                await self.send(message)
            except Rejected as error:
                error.index = index
                raise


@animal(
    "sends-batches-as-they-are", says=r"send_batch\(\) of messages 2 to 11 raised Rejected with index=None"
)
class ForgetsWhereItStopped(PlainClient):
    """It does not say at which message of a batch it stopped."""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        for message in batch.messages[start:]:
            await self.send(message)


@animal("sends-batches-as-they-are", says=r"b'00000001 .* arrived in the place of b'00000003")
class BeginsAtTheBeginning(PipelinedClient):
    """It sends all of a batch, wherever it is told to begin."""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        await super().send_batch(batch)


@animal("sends-batches-as-they-are", says=r"the list of a batch's messages is another after misfits\(\)")
class MendsTheBatch(PlainClient):
    """What it cannot carry it changes, in the list that all producers share."""

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        messages = batch.messages
        assert isinstance(messages, list)
        messages[:] = [message.replace(b"\n", b" ") for message in messages]
        return super().misfits(batch)

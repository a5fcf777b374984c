"""Animals that cannot be cancelled, or leave something half done."""

from __future__ import annotations

import asyncio
import os
from functools import partial

from producer_pool.plugin import SendError
from support.zoo.animal import animal, cleaning
from support.zoo.handmade import HandmadeClient
from support.zoo.healthy import PipelinedClient, PlainClient


@animal("passes-on-cancellation", says=r"connect\(\) was cancelled, and returned")
class ConnectSwallowsCancellation(PlainClient):
    """connect() returns when it is cancelled."""

    async def connect(self) -> None:
        try:
            await asyncio.sleep(0)
            await super().connect()
        except asyncio.CancelledError:
            return


@animal("passes-on-cancellation", says=r"aclose\(\) was cancelled, and raised SendError: interrupted")
class CloseTurnsCancellationIntoAnError(PlainClient):
    """aclose() makes an error of its own of a cancellation."""

    async def aclose(self) -> None:
        closes = self.socket is not None
        await super().aclose()
        try:
            if closes:
                await asyncio.sleep(0.001)
        except BaseException:
            raise SendError("interrupted") from None


@animal("passes-on-cancellation", says=r"waited .* in vain: a connect\(\) that is cancelled ends")
class ConnectIgnoresCancellation(PlainClient):
    """connect() goes on trying, cancelled or not."""

    async def connect(self) -> None:
        for _ in range(400):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        await super().connect()


@animal("cancelled-connect-leaves-nothing", says=r"file descriptors are left after connect\(\) was cancelled")
class ForgetsWhatItOpened(PipelinedClient):
    """A connect() that is cancelled leaves its socket open."""

    async def connect(self) -> None:
        fd = os.open(os.devnull, os.O_RDONLY)
        try:
            await asyncio.sleep(0)
            await super().connect()
        except asyncio.CancelledError:
            cleaning.append(partial(os.close, fd))
            raise
        os.close(fd)


@animal("cancelled-close-leaves-nothing", says=r"file descriptors are left after aclose\(\) was cancelled")
class ForgetsWhatItCloses(PlainClient):
    """An aclose() that is cancelled leaves its socket open, and the next one does nothing."""

    async def aclose(self) -> None:
        sock, self.socket = self.socket, None
        if sock is not None:
            try:
                for _ in range(8):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                cleaning.append(sock.close)
                raise
            sock.close()


@animal("cancelled-send-ends", says=r"send\(\) was cancelled, and returned")
class SendSwallowsCancellation(PlainClient):
    """send() returns when it is cancelled, as if the message had been sent."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except asyncio.CancelledError:
            return


@animal("cancelled-send-ends", says=r"waited .* in vain: aclose\(\) after a cancelled send\(\) returns")
class FlushesBeforeItCloses(HandmadeClient):
    """aclose() waits until all is written that was to be, whether anybody reads or not."""

    async def aclose(self) -> None:
        self.inside = False
        await super().aclose()


@animal("cancelled-send-ends", says=r"waited .* in vain: a send\(\) that is cancelled ends")
class SendIgnoresCancellation(PlainClient):
    """send() goes on until all is written, cancelled or not."""

    async def write(self, wire: bytes) -> None:
        writing = asyncio.ensure_future(super().write(wire))
        while not writing.done():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                continue


@animal("cancelled-send-leaves-no-half", says=r"\(\d+ bytes\) arrived, and nobody sent it")
class ClosesInsideAMessage(PlainClient):
    """The connection is closed in good order when half a message is written."""

    async def aclose(self) -> None:
        self.inside = False
        await super().aclose()


@animal(
    "cancelled-send-leaves-no-half",
    says="nobody sent it|no message arrives over the connection after",
)
class GoesOnWithTheRest(PipelinedClient):
    """The next connection begins with the rest of the message that the last one had begun."""

    rest = b""

    async def aclose(self) -> None:
        self.rest = bytes(self._tail)
        await super().aclose()

    async def connect(self) -> None:
        rest = self.rest
        await super().connect()
        if rest:
            self._push(rest)

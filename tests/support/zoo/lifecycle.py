"""Animals that begin or end badly, or leave something behind."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from functools import partial

from producer_pool.plugin import ConnectError, DeliveryError, Endpoint
from support.zoo.animal import animal, cleaning
from support.zoo.healthy import PipelinedClient, PlainClient, ZooOptions


@animal("is-made-without-a-loop", says=r"making a client where no event loop runs raised .*no running event")
class IsMadeOnALoop(PlainClient):
    """It looks for the event loop when it is made."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        super().__init__(endpoint, options)
        self.loop = asyncio.get_running_loop()


@animal("closes-before-it-connected", says=r"aclose\(\) before connect\(\) raised AttributeError")
class ClosesOnlyWhatIsThere(PlainClient):
    """aclose() of a client that was never connected raises."""

    async def aclose(self) -> None:
        if self.inside or self.__dict__.pop("connected", False):
            await super().aclose()
        else:
            self.socket.close()  # type: ignore[union-attr]

    async def connect(self) -> None:
        self.socket = await self.dial()
        self.connected = True


@animal("closes-twice", says=r"the second aclose\(\) raised RuntimeError: closed already")
class SecondCloseRaises(PlainClient):
    """A second aclose() raises."""

    closed = False

    async def connect(self) -> None:
        self.closed = False
        await super().connect()

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = self.socket is not None
        await super().aclose()


@animal("connects-again", says=r"raised ConnectError: it was used already")
class ConnectsOnce(PipelinedClient):
    """It cannot be connected a second time."""

    used = False

    async def connect(self) -> None:
        if self.used:
            raise ConnectError("it was used already")
        self.used = True
        await super().connect()


@animal("arrives-before-the-end", says=r"\d+ of 20 messages did not arrive")
class ForgetsItsBuffer(PlainClient):
    """send() returns before anything is written, and aclose() throws away what is not."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.buffer: list[bytes] = []

    async def write(self, wire: bytes) -> None:
        self.buffer.append(wire)
        asyncio.get_running_loop().call_later(1.0, self.flush)

    def flush(self) -> None:
        if self.socket is not None and self.buffer:
            self.socket.send(self.buffer.pop(0))

    async def aclose(self) -> None:
        self.buffer.clear()
        await super().aclose()


@animal("arrives-before-the-end", says=r"1 of 20 messages did not arrive, such as b'00000019 ")
class KeepsTheLastMessage(PlainClient):
    """A message goes out when the next one comes: the last one never does."""

    kept = b""

    async def write(self, wire: bytes) -> None:
        wire, self.kept = self.kept, wire
        if wire:
            await super().write(wire)


@animal("leaves-nothing", says=r"1\d file descriptors are left after 12 connections were closed")
class LeaksADescriptor(PipelinedClient):
    """Each connection leaves a file descriptor open."""

    async def connect(self) -> None:
        await super().connect()
        assert self._socket is not None
        cleaning.append(partial(os.close, os.dup(self._socket.fileno())))


@animal("leaves-nothing", says=r"\d\d left to the garbage collector: unclosed <socket")
class LeavesItToTheCollector(PlainClient):
    """It lets go of its socket without closing it."""

    async def aclose(self) -> None:
        self.socket = None


@animal("leaves-nothing", says=r"1\d tasks are left after 12 connections were closed")
class LeaksATask(PipelinedClient):
    """Each connection leaves a task behind, which waits for ever."""

    async def connect(self) -> None:
        await super().connect()
        self.watching = asyncio.create_task(asyncio.sleep(3600))


@animal("leaves-nothing", says=r"1\d threads are left after 12 connections were closed")
class LeaksAThread(PlainClient):
    """Each connection leaves a thread behind, which waits for ever."""

    async def connect(self) -> None:
        await super().connect()
        over = threading.Event()
        thread = threading.Thread(target=over.wait, daemon=True)
        thread.start()
        cleaning.extend([thread.join, over.set])


@animal("leaves-nothing", says=r"12 file descriptors are left after 12 connections could not be made")
class LeaksWhatItBegan(PlainClient):
    """What connect() had opened when it failed stays open."""

    async def dial(self) -> socket.socket:
        opened = os.open(os.devnull, os.O_RDONLY)
        cleaning.append(partial(os.close, opened))
        sock = await super().dial()
        cleaning.pop()()
        return sock


@animal("leaves-nothing", says=r"12 tasks are left after 12 connections broke")
class WatchesWhatBroke(PlainClient):
    """What watches a connection ends with aclose(), if nothing was wrong until then."""

    watching: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await super().connect()
        self.watching = asyncio.create_task(asyncio.sleep(3600))

    async def write(self, wire: bytes) -> None:
        try:
            await super().write(wire)
        except DeliveryError:
            self.watching = None
            raise

    async def aclose(self) -> None:
        if self.watching is not None:
            self.watching.cancel()
            self.watching = None
        await super().aclose()

"""Animals whose listener begins or ends badly, does not wait, does not count, or cares for one alone."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from functools import partial
from threading import Thread

from producer_pool.plugin import Batch, Connection, Endpoint, Intake, StreamListenerOptions
from support.zoo.animal import animal, cleaning
from support.zoo.handmade import HandmadeListener
from support.zoo.healthy import ZooListener


@animal("listener-closes-twice", says=r"the second aclose\(\) raised KeyError")
class SecondCloseOfListenerRaises(ZooListener):
    """A second aclose() of the listener raises."""

    async def aclose(self) -> None:
        if self._started or not hasattr(self, "_loop"):
            await super().aclose()
        else:
            raise KeyError("it is not in the table any more")


@animal("listener-tells-its-address", says=r"start\(\) returned zoo://127.0.0.1:0, where nobody can connect")
class TellsWhereItWasAskedToListen(ZooListener):
    """start() returns what it was asked for, and not what it got."""

    async def start(self, intake: Intake) -> Endpoint:
        return (await super().start(intake)).at("127.0.0.1", 0)


@animal("listener-stays-where-it-was-told", says=r"listens at 127\.0\.0\.1, as it says, and at all other")
class ListensEverywhere(HandmadeListener):
    """The host in its URL is for show."""

    async def start(self, intake: Intake) -> Endpoint:
        host, self.host = self.host, "0.0.0.0"
        endpoint = await super().start(intake)
        self.host = host
        return endpoint.at(host, endpoint.port)


@animal("listener-frees-its-address", says=r"could not be listened at again: ListenError")
class KeepsItsAddress(ZooListener):
    """The socket that it listened at stays open."""

    async def start(self, intake: Intake) -> Endpoint:
        endpoint = await super().start(intake)
        cleaning.append(partial(os.close, os.dup(self._acceptor._sockets[0].fileno())))
        return endpoint


@animal("listener-frees-its-address", says=r"could not be listened at again: ListenError.*already in use")
class WaitsForTheLastPacket(HandmadeListener):
    """It is bound without SO_REUSEADDR: a connection that has ended is in its way."""

    reuse_address = False


@animal("taken-address-is-a-listen-error", says=r"start\(\) where another listens raised OSError: .*not a")
class PassesOnWhatBindSays(ZooListener):
    """Where another listens, start() raises what the system said."""

    async def start(self, intake: Intake) -> Endpoint:
        socket.create_server((self.where.host, self.where.port)).close()
        return await super().start(intake)

    def __init__(self, endpoint: Endpoint, options: StreamListenerOptions) -> None:
        super().__init__(endpoint, options)
        self.where = endpoint


@animal("taken-address-is-a-listen-error", says=r"file descriptors are left after start\(\) where another")
class ForgetsWhatItOpenedFirst(ZooListener):
    """What start() had opened when it found that another listens stays open."""

    async def start(self, intake: Intake) -> Endpoint:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
        cleaning.extend(partial(os.close, one) for one in opened)
        return await super().start(intake)


@animal("listener-leaves-nothing", says=r"1\d file descriptors are left after 12 listeners were closed")
class ListenerLeaksADescriptor(ZooListener):
    """Each start of the listener leaves a file descriptor open."""

    async def start(self, intake: Intake) -> Endpoint:
        cleaning.append(partial(os.close, os.open(os.devnull, os.O_RDONLY)))
        return await super().start(intake)


@animal("listener-leaves-nothing", says=r"1\d tasks are left after 12 listeners were closed")
class ListenerLeaksATask(ZooListener):
    """Each connection that the listener took leaves a task behind."""

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        self.watching = asyncio.create_task(asyncio.sleep(3600))
        return super()._connection(sock, origin)


@animal("listener-closes-its-connections", says=r"waited .* in vain: aclose\(\) of the listener returns")
class WaitsForItsClients(HandmadeListener):
    """aclose() waits until the last client has gone."""

    async def aclose(self) -> None:
        await self.stop_accepting()
        if self.open:
            await asyncio.wait([*self.open])


@animal(
    "listener-closes-its-connections", says=r"[1-5] messages were passed on after aclose\(\) had returned"
)
class ClosesTheDoorAlone(HandmadeListener):
    """aclose() closes what listens, and leaves the connections as they are."""

    async def aclose(self) -> None:
        await self.stop_accepting()
        if self.open:
            cleaning.extend(writer.transport.abort for writer in self.open.values())


@animal("listener-drains-what-has-arrived", says=r"\d+ of 21 messages did not arrive")
class DoesNotDrain(ZooListener):
    """drain() reads no more, and forgets what has arrived and was not read."""

    async def drain(self) -> None:
        self._turns.stop()


@animal(
    "listener-drains-what-has-arrived", says=r"waited .* in vain: .* drain\(\) returns though their client"
)
class DrainsForEver(HandmadeListener):
    """drain() waits until no client is left that could send more."""

    async def drain(self) -> None:
        if self.open:
            await asyncio.wait([*self.open])


@animal("listener-stops-accepting-alone", says="did not arrive|a message is sent after stop_accepting")
class StopsAltogether(ZooListener):
    """stop_accepting() ends the connections, too."""

    async def stop_accepting(self) -> None:
        await self.aclose()


@animal("listener-stops-accepting-alone", says=r"was made after stop_accepting\(\) was served")
class AcceptsForEver(HandmadeListener):
    """stop_accepting() does nothing."""

    async def stop_accepting(self) -> None:
        return

    async def aclose(self) -> None:
        await super().stop_accepting()
        await super().aclose()


class NeverPaused:
    """An intake that hides that it is paused."""

    paused = False

    def __init__(self, intake: Intake) -> None:
        self.feed = intake.feed


@animal(
    "listener-reads-nothing-while-paused", says=r"\d+ messages were passed on while the intake was paused"
)
class IgnoresThePause(ZooListener):
    """The listener does not look whether its intake is paused."""

    async def start(self, intake: Intake) -> Endpoint:
        return await super().start(NeverPaused(intake))  # type: ignore[arg-type]


@animal("listener-reads-nothing-while-paused", says=r"2 messages were passed on while the intake was paused")
class GreetsDuringThePause(HandmadeListener):
    """What a new connection says first is passed on, paused or not."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readline()
        if first.endswith(b"\n"):
            self.feed(first[:-1])
        await super().serve(reader, writer)


@animal("listener-feeds-on-its-loop", says=r"feed\(\) was called from another thread than that of the loop")
class FeedsFromAThread(HandmadeListener):
    """What its library calls back with goes from that thread to the intake."""

    def feed(self, message: bytes) -> None:
        thread = Thread(target=super().feed, args=(message,))
        thread.start()
        thread.join()


@animal("listener-keeps-its-limit", says=r"with max-message=1KiB, .* \(65536 bytes\) was passed on")
class TakesAnyLength(HandmadeListener):
    """It does not look at the length of a message."""

    def __init__(self, endpoint: Endpoint, options: StreamListenerOptions) -> None:
        super().__init__(endpoint, replace(options, max_message=1 << 30))


@animal("listener-keeps-its-limit", says=r"the connection of another client is not served")
class GivesUpAtATooLongMessage(HandmadeListener):
    """A message that is too long ends the listener."""

    async def line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await super().line(reader)
        except ValueError:
            self.closing = asyncio.ensure_future(self.aclose())
            raise


@animal("listener-outlives-strangers", says=r"after strangers had come, no client is served")
class TrustsWhoeverConnects(HandmadeListener):
    """The loop that accepts asks who is there, and ends if nobody is any more."""

    async def start(self, intake: Intake) -> Endpoint:
        endpoint = await super().start(intake)
        assert self.server is not None
        self.door = self.server.sockets[0].dup()
        self.server.close()
        self.accepting = asyncio.ensure_future(self.accept(asyncio.get_running_loop()))
        return endpoint

    async def accept(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            sock, _ = await loop.sock_accept(self.door)
            try:
                sock.getpeername()
            except OSError:
                sock.close()
                self.door.close()
                return
            reader, writer = await asyncio.open_connection(sock=sock, limit=self.options.max_message)
            self.accepted(reader, writer)

    async def stop_accepting(self) -> None:
        if self.server is not None:
            self.accepting.cancel()
            await asyncio.wait([self.accepting])
            self.door.close()


@animal("listener-counts", says=r"stats\.messages is 0, and 1 were passed on")
class CountsNothing(HandmadeListener):
    """It has counters, and never counts."""

    def feed(self, message: bytes) -> None:
        self.intake.feed(Batch.of([message]))


@animal("listener-counts", says=r"in vain: stats\.connections falls when a connection ends")
class CountsUpAlone(HandmadeListener):
    """A connection that ended is still counted."""

    def ended(self, task: asyncio.Task[None]) -> None:
        del self.open[task]

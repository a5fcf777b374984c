"""A client whose consumer answers each message with a line: an application acknowledges, and no kernel."""

import asyncio

from producer_pool import Ack, Batch, Client, ConnectError, SendError

__all__ = ["AnsweredClient"]


class AnsweredClient(Client):
    """Sends lines to a port of 127.0.0.1, a batch at a time, and waits for as many lines."""

    protocol_name = "answered"
    ack = Ack.APP

    def __init__(self, port: int) -> None:
        self.address = f"answered at {port}"
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise ConnectError(f"{self.address}: {error.strerror}") from error

    async def send(self, message: bytes) -> None:
        await self.send_batch(Batch.of([message]))

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        assert self._writer is not None
        messages = batch.messages[start:]
        self._writer.write(b"".join(message + b"\n" for message in messages))
        for index in range(start, len(batch)):
            try:
                answer = await self._reader.readline()
            except OSError:
                answer = b""
            if not answer:
                failed = SendError(f"{self.address}: the consumer closed the connection before it answered")
                failed.index = index
                raise failed

    async def aclose(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

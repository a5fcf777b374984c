"""A client of one's own, for a consumer that answers each line with ``ok`` or ``no``."""

import asyncio

from producer_pool import Ack, AsyncProducerPool, Client, ConnectError, Rejected, SendError


class AskingClient(Client):
    protocol_name = "asking"
    ack = Ack.APP  # send() returns when the consumer's application has answered.

    def __init__(self, host: str, port: int) -> None:
        self.address = f"{host}:{port}"
        self.place = host, port
        self.writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        try:
            self.reader, self.writer = await asyncio.open_connection(*self.place)
        except OSError as error:
            raise ConnectError(f"{self.address}: {error.strerror}") from error

    async def send(self, message: bytes) -> None:
        if b"\n" in message:
            raise Rejected(f"{self.address}: a line cannot hold a newline")
        assert self.writer is not None
        try:
            self.writer.write(message + b"\n")
            answer = await self.reader.readline()
        except OSError as error:
            raise SendError(f"{self.address}: {error.strerror}") from error
        if not answer:
            raise SendError(f"{self.address}: it closed the connection and did not answer")
        if answer != b"ok\n":
            raise Rejected(f"{self.address}: it says {answer.decode().strip()}")

    async def aclose(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be the consumer: take orders, and nothing else."""
    async for line in reader:
        writer.write(b"ok\n" if line.startswith(b"order") else b"no\n")
    writer.close()


async def main() -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", 9000), AsyncProducerPool() as pool:
        await pool.add_producer("orders", AskingClient("127.0.0.1", 9000))
        await pool.add_producer("absent", AskingClient("127.0.0.1", 9999))
        for message in ("order 1", "a joke"):
            for producer_id, result in (await pool.forward_to_all(message)).items():
                print(f"{message}: {producer_id}: {result.ack.label if result.ack else result.error}")


if __name__ == "__main__":
    asyncio.run(main())

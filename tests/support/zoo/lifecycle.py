"""Animals that begin or end badly, or leave something behind."""

from __future__ import annotations

from support.zoo.animal import animal
from support.zoo.healthy import PlainClient


@animal("closes-twice", says=r"second aclose\(\) raised RuntimeError: closed already")
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

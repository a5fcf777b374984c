"""Animals that make the wrong thing of a URL, or of what comes from it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import ClassVar

from producer_pool.plugin import ConnectError, Endpoint, option
from support.zoo.animal import animal
from support.zoo.healthy import PlainClient, ZooOptions


@dataclass(frozen=True)
class UnexplainedOptions(ZooOptions):
    """One of them has no sentence."""

    colour: str = "blue"


@animal(
    "options-are-coerced",
    says=r"option colour of a client has no sentence that says what it does",
    options=UnexplainedOptions,
)
class ExplainsNothing(PlainClient):
    """An option without a sentence."""


@dataclass
class ChangeableOptions:
    """They are not frozen."""

    colour: str = option("blue", "what it is painted in")


@animal("options-are-coerced", says=r"ChangeableOptions is not frozen", options=ChangeableOptions)
class CanBeChanged(PlainClient):
    """Options that are not frozen."""


@dataclass(frozen=True)
class TakenOptions(ZooOptions):
    """One of them is the producer's."""

    buffer: int = option(1, "what it keeps")


@animal(
    "options-are-coerced",
    says=r"option buffer of a client: the producer has an option of that name",
    options=TakenOptions,
)
class TakesTheProducersOption(PlainClient):
    """An option with the name of a delivery option."""


@dataclass(frozen=True)
class OddDefaultOptions(ZooOptions):
    """The default of one is of another type than it says."""

    colour: int = option("blue", "what it is painted in")  # type: ignore[assignment]


@animal(
    "options-are-coerced",
    says=r"option colour of a client: its default blue cannot be written in a URL",
    options=OddDefaultOptions,
)
class HasAnImpossibleDefault(PlainClient):
    """An option whose default nobody could write."""


@dataclass(frozen=True)
class PieceOptions(ZooOptions):
    """One of them must not be 0, and nobody says so."""

    pieces: int = option(1, "in how many pieces it writes")


@animal(
    "refuses-bad-values",
    says=r"pieces=0 of a client raised PluginLoadError: .*ZeroDivisionError",
    options=PieceOptions,
)
class DividesByAnOption(PlainClient):
    """It divides by what the URL says."""

    def __init__(self, endpoint: Endpoint, options: PieceOptions) -> None:
        super().__init__(endpoint, options)
        self.piece = 65536 // options.pieces


@animal("refuses-odd-urls", says=r"zoo:\S* raised PluginLoadError: .*(IndexError|ValueError)")
class ReadsTheUrlItself(PlainClient):
    """It takes the URL apart by hand."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        self.port = int(endpoint.raw.partition("?")[0].split(":")[2])
        super().__init__(endpoint, options)


@animal(
    "refuses-odd-urls", says=r"zoo:\S*: connect\(\) raised (OverflowError|UnicodeError|ValueError|OSError)"
)
class BelievesWhatItReads(PlainClient):
    """What the URL says comes to light when it connects."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        super().__init__(Endpoint.parse("zoo://127.0.0.1:1"), options)
        place = endpoint.raw.partition("?")[0].removeprefix("zoo://")
        self.host, _, self.text = place.partition(":")

    async def connect(self) -> None:
        await self.aclose()
        try:
            self.socket = socket.create_connection((self.host, int(self.text)), timeout=0.05)
        except (ConnectionError, TimeoutError, socket.gaierror) as error:
            raise ConnectError(f"{self.address}: {error}") from None


@animal(
    "leaves-options-alone", says=r"options\.max_message was 1048576, and is 1048577 after clients were made"
)
class ChangesItsOptions(PlainClient):
    """It makes room in the options that it was given."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        super().__init__(endpoint, options)
        self.options = options

    async def connect(self) -> None:
        await super().connect()
        if self.options.max_message == 1048576:
            object.__setattr__(self.options, "max_message", 1048577)


@animal("two-clients-are-independent", says=r"after another client of the same URL was closed: ConnectError")
class SharesItsSocket(PlainClient):
    """All clients have one socket."""

    shared: ClassVar[dict[str, socket.socket | None]] = {}

    @property
    def socket(self) -> socket.socket | None:
        return self.shared.get("socket")

    @socket.setter
    def socket(self, sock: socket.socket | None) -> None:
        self.shared["socket"] = sock


@animal("two-clients-are-independent", says=r"20 messages arrived at the consumer of another client")
class SharesItsBuffer(PlainClient):
    """All clients write out of one buffer."""

    shared: ClassVar[list[bytes]] = []

    async def write(self, wire: bytes) -> None:
        self.shared.append(wire)
        await asyncio.sleep(0)
        together = b"".join(self.shared)
        self.shared.clear()
        await super().write(together)

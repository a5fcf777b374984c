"""How a bench speaks with its processes: JSON, one line for each thing asked, and one for each answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from producer_pool.cli.benching.board import Board
from producer_pool.cli.benching.book import Book, Shape
from producer_pool.cli.output import print_json
from producer_pool.cli.plugin_files import registry_with
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.errors import ConfigurationError, PluginError

__all__ = ["NOBODY", "Setup", "answer", "orders", "refuse"]

NOBODY: Final = "nobody"
"""In the place of a relay's number: there is none that would have to be ended."""
_LINE: Final = 16 * 1024 * 1024
_BOARD: Final = "board"
_BELL: Final = "bell"


@dataclass(frozen=True)
class Setup:
    """What all processes of a bench have to know alike."""

    folder: Path
    shape: Shape
    consumers: int
    window: int
    """Messages of each producer that may be under way to the slowest consumer."""
    relay_cores: tuple[int, ...] = ()
    """Where the relay may run; none: anywhere."""
    load_cores: tuple[int, ...] = ()
    """Where the load may run."""
    plugins: tuple[Path, ...] = ()

    @property
    def bell(self) -> Path:
        """A pipe with a name: whoever receives writes to it, and whoever waits for that reads."""
        return self.folder / _BELL

    @property
    def often(self) -> int:
        """Messages after which a consumer rings."""
        return max(1, self.window * self.shape.producers // 4)

    def place(self, name: str) -> Path:
        """Return a folder for one end of a protocol."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def book(self) -> Book:
        """Return the messages."""
        return Book(self.shape)

    def board(self) -> Board:
        """Return what is shared."""
        return Board(
            self.folder / _BOARD,
            producers=self.shape.producers,
            consumers=self.consumers,
            slots=self.shape.round,
        )

    def factory(self) -> ClientFactory:
        """Return what makes clients and listeners."""
        return ClientFactory(registry_with(self.plugins))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = asdict(self)
        return {**plain, "folder": str(self.folder), "plugins": [str(path) for path in self.plugins]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what as_json() had."""
        return cls(
            **{
                **value,
                "folder": Path(value["folder"]),
                "shape": Shape(**value["shape"]),
                "relay_cores": tuple(value["relay_cores"]),
                "load_cores": tuple(value["load_cores"]),
                "plugins": tuple(map(Path, value["plugins"])),
            }
        )


async def orders() -> AsyncIterator[dict[str, Any]]:
    """Yield what is asked on stdin, until whoever asks is gone."""
    reader = asyncio.StreamReader(limit=_LINE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


def refuse(error: BaseException) -> None:
    """Answer that it cannot be done, and whether a person has to change what was asked for."""
    answer(error=str(error), unusable=isinstance(error, ConfigurationError | PluginError))


def answer(**values: Any) -> None:
    """Answer what was asked."""
    print_json(values)

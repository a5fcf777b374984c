"""A small file beside the database: what is known about a spool even where its database cannot be read."""
# Rule: two slots of one size, written in turn, each with a checksum. Nothing is allocated after the first
# time, so it can be written on a full disk, and a write that is interrupted leaves the other slot.

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from producer_pool.storage.portable import allocate, sync_data
from producer_pool.storage.positions import Position

__all__ = ["BLOCK", "State", "StateFile", "read_state"]

BLOCK: Final = 1_000_000
"""Numbers that are reserved at a time, so that they are not written for each batch."""

_SLOT: Final = 128 * 1024
_MAGIC: Final = b"producer-pool spool state 1 "


class State:
    """What is in it."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        values = values or {}
        self.ceiling = int(values.get("ceiling", 0))
        """No batch has a higher number, whatever became of it."""
        self.identity = bytes.fromhex(str(values.get("identity", ""))) or None
        """By what the spool knows its files of payloads."""
        self.positions: dict[str, Position] = {}
        for name, text in dict(values.get("positions", {})).items():
            self.positions[str(name)] = Position.from_text(text)
        self.shown: dict[str, Any] = dict(values.get("shown", {}))
        """For people: see inspecting.py."""

    def as_values(self) -> dict[str, Any]:
        """Return it as plain values."""
        positions = {name: position.as_text() for name, position in self.positions.items()}
        return {
            "ceiling": self.ceiling,
            "identity": (self.identity or b"").hex(),
            "positions": positions,
            "shown": self.shown,
        }


class StateFile:
    """Writes states; read_state() reads the newest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = _newest(path)
        self._turn = found[0] + 1 if found else 0
        self._fd: int | None = None

    def write(self, state: State, *, durably: bool) -> None:
        """
        Write *state*; *durably*: before this returns, it is safe from a power cut.

        Raises:
            OSError: it could not be written.
        """
        if self._fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            if os.fstat(self._fd).st_size < 2 * _SLOT:
                allocate(self._fd, 2 * _SLOT)
                os.fsync(self._fd)
        slot = _slot(self._turn, state)
        if len(slot) > _SLOT:  # Of thousands of producers the numbers count, and not where each of them is.
            bare = State()
            bare.ceiling, bare.identity = state.ceiling, state.identity
            slot = _slot(self._turn, bare)
        os.pwrite(self._fd, slot, self._turn % 2 * _SLOT)
        self._turn += 1
        if durably:
            sync_data(self._fd)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _slot(turn: int, state: State) -> bytes:
    body = json.dumps([turn, state.as_values()]).encode()
    return _MAGIC + b"%08x %d\n" % (zlib.crc32(body), len(body)) + body


def read_state(path: Path) -> State:
    """Return the newest state that can be read, or an empty one."""
    found = _newest(path)
    return found[1] if found else State()


def _newest(path: Path) -> tuple[int, State] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        slots = [_read(os.pread(fd, _SLOT, offset)) for offset in (0, _SLOT)]
    except OSError:
        return None
    finally:
        os.close(fd)
    return max(filter(None, slots), default=None, key=lambda slot: slot[0])


def _read(slot: bytes) -> tuple[int, State] | None:
    head, _, rest = slot.partition(b"\n")
    try:
        checksum, length = head.removeprefix(_MAGIC).split()
        body = rest[: int(length)]
        if zlib.crc32(body) != int(checksum, 16):
            return None
        turn, values = json.loads(body)
        return int(turn), State(values)
    except (ValueError, TypeError, AttributeError):
        return None

"""The account at the end of the demo: what the daemon says, against what the consumers wrote down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from producer_pool.cli.demo.records import Record, runs
from producer_pool.cli.output import print_table

__all__ = ["Account"]

_COUNTERS = ("accepted", "delivered", "failed", "dropped", "cancelled", "pending")


class Account:
    """
    Checks that every message is where it should be.

    *final* is what the daemon said at its end, *killed* the consumer that died, and *lost* are the
    numbers of the messages that its receive buffer held then.
    """

    def __init__(
        self, sent: int, records: Mapping[str, Record], final: Mapping[str, Any], killed: str, lost: range
    ) -> None:
        self._sent = sent
        self._records = records
        self._consumers = final["consumers"]
        self._killed = killed
        self._lost = lost
        self.faults = list(self._find())
        """What is not as it should be."""

    def _find(self) -> Iterator[str]:
        for name, record in self._records.items():
            expected = [(1, self._sent)]
            if name == self._killed and self._lost:
                expected = [(1, self._lost[0] - 1), (self._lost[-1] + 1, self._sent)]
            try:
                found = runs(record.numbers())
            except ValueError as error:
                yield f"{name}: {error}"
                continue
            if found != expected:
                yield f"{name} has {_spelt(found)}, and should have {_spelt(expected)}"
            counted = [self._consumers[name][counter] for counter in _COUNTERS]
            if counted != [self._sent, self._sent, 0, 0, 0, 0]:
                yield f"{name}: the daemon counts {dict(zip(_COUNTERS, counted, strict=True))}"

    def show(self) -> None:
        """Print it."""
        print()
        rows = []
        for name, record in self._records.items():
            consumer = self._consumers[name]
            died = len(self._lost) if name == self._killed else 0
            whole = len(record) + died == self._sent
            rows.append(
                (
                    name,
                    *(f"{consumer[counter]:,}" for counter in _COUNTERS),
                    consumer["ack"],
                    f"{len(record):,}",
                    f"{died:,}",
                    "all" if whole else f"{len(record) + died:,}",
                )
            )
        print_table(
            ("consumer", *_COUNTERS, "level", "in its record", "in its dead buffer", "together"), rows
        )
        print(
            "\nLevel 'kernel' says that the consumer's system has a message, not that its program read it.\n"
            f"The {len(self._lost):,} messages that {self._killed} had not read died with it; "
            "nobody could tell the daemon."
        )
        for fault in self.faults:
            print(f"NOT AS IT SHOULD BE: {fault}")
        if not self.faults:
            print("Every message is accounted for, in order, and none came twice.")


def _spelt(found: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"{first}-{last}" for first, last in found[:5])
    return f"{shown}, ... ({len(found)} runs)" if len(found) > 5 else shown or "nothing"

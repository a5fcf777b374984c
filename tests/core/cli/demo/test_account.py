"""The account at the end of the demo: it passes what is right, and nothing else."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from producer_pool.cli.demo.account import Account
from producer_pool.cli.demo.records import Record, message

SENT = 10
LOST = range(4, 6)

Numbers = dict[str, list[int]]


def right() -> Numbers:
    """Return what the records should hold."""
    everything = list(range(1, SENT + 1))
    return {"a": everything, "b": [n for n in everything if n not in LOST], "c": everything[:]}


def account(folder: Path, numbers: Numbers, change: Callable[[Any], None] = lambda final: None) -> Account:
    """Return the account of records with these numbers, after the daemon's last word was changed."""
    final = {
        "consumers": {
            name: {
                "accepted": SENT,
                "delivered": SENT,
                "failed": 0,
                "dropped": 0,
                "cancelled": 0,
                "pending": 0,
                "ack": "kernel",
            }
            for name in numbers
        }
    }
    change(final["consumers"])
    records = {}
    for name, listed in numbers.items():
        records[name] = Record(folder / name)
        records[name].path.write_bytes(b"".join(map(message, listed)))
    return Account(SENT, records, final, "b", LOST)


def test_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every message is in a record, or is known to have died in the killed consumer's buffer."""
    good = account(tmp_path, right())
    good.show()

    shown = capsys.readouterr().out
    assert good.faults == []
    assert "Every message is accounted for" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert rows["a"] == ["10", "10", "0", "0", "0", "0", "kernel", "10", "0", "all"]
    assert rows["b"] == ["10", "10", "0", "0", "0", "0", "kernel", "8", "2", "all"]


@pytest.mark.parametrize(
    "name,numbers",
    [
        ("a", range(1, 10)),
        ("a", [1, 1, *range(2, 11)]),
        ("a", [2, 1, *range(3, 11)]),
        ("b", [1, 2, *range(6, 11)]),
        ("b", range(1, 11)),
        ("b", [1, 2, 3, 4, *range(7, 11)]),
        ("c", []),
    ],
)
def test_wrong_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, numbers: Iterable[int]
) -> None:
    """One message missing, twice, or out of order is a fault of that consumer; so is a wrong gap."""
    bad = account(tmp_path, {**right(), name: list(numbers)})
    bad.show()

    assert len(bad.faults) == 1
    assert bad.faults[0].startswith(f"{name} has ")
    assert "NOT AS IT SHOULD BE" in capsys.readouterr().out


def test_wrong_counters(tmp_path: Path) -> None:
    """What the daemon counts has to agree with the records."""
    bad = account(tmp_path, right(), lambda consumers: consumers["c"].update(delivered=9, pending=1))

    assert len(bad.faults) == 1
    assert bad.faults[0].startswith("c: the daemon counts ")

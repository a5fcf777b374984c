"""``producer-pool dead-letters replay``: what is delivered is removed, and nothing else."""

import fcntl
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer_pool.builtin.memory import MemoryClient
from producer_pool.cli.group import cli
from producer_pool.storage.dead_letters import FILE, LetterFile
from support.letters import letter, lines_in, messages_in

PICKY = '''
"""A consumer that refuses what begins with x, and puts all else into memory."""
from producer_pool import Rejected
from producer_pool.builtin.memory import MemoryClient
from producer_pool.plugin import Client, Transport, hookimpl


class Picky(Client):
    protocol_name = address = "picky"

    async def send(self, message):
        if message.startswith(b"x"):
            raise Rejected("picky: not with an x")
        MemoryClient.named("picky")._store([message])


@hookimpl
def producer_pool_transports():
    yield Transport(schemes=("picky",), client=lambda endpoint, options: Picky())
'''


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with letters of two producers."""
    folder = tmp_path / "letters"
    with LetterFile(folder) as file:
        file.add([letter(b"1", b"2"), letter(b"3", producer_id="billing"), letter(b"", b"x4", b"5")])
    for name in ("audit", "billing", "picky"):
        MemoryClient.named(name).clear()
    return folder


def replay(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["dead-letters", "replay", str(folder), *arguments], env=env)


def arrived(name: str) -> list[bytes]:
    return list(MemoryClient.named(name).messages)


def test_all(folder: Path) -> None:
    """Each letter goes to its own producer, in order, and is gone afterwards."""
    env = {"PRODUCER_AUDIT": "memory:audit", "PRODUCER_BILLING": "memory:billing"}
    done = replay(folder, "--all", env=env)

    assert done.exit_code == 0, done.stderr
    assert done.stderr == "6 replayed: 6 delivered, 0 stay\n"
    assert arrived("audit") == [b"1", b"2", b"", b"x4", b"5"]
    assert arrived("billing") == [b"3"]
    assert messages_in(folder) == []


def test_some(folder: Path) -> None:
    """Ids and filters say which; a letter may go elsewhere, under the id of its producer."""
    done = replay(folder, "2-3", "--producer", "audit", "--to", "audit=memory:billing")

    assert done.exit_code == 0, done.stderr
    assert arrived("billing") == [b"", b"x4", b"5"]
    assert messages_in(folder) == [b"1", b"2", b"3"]
    assert replay(folder, "--to", "audit=memory:audit").exit_code == 2


def test_among_json(folder: Path) -> None:
    """Messages are not mixed with JSON; a producer that nothing is replayed to may be there."""
    env = {"PRODUCER_AUDIT": "stdout:", "PRODUCER_BILLING": "memory:billing"}
    mixed = replay(folder, "--all", "--json", env=env)

    assert (mixed.exit_code, mixed.stdout) == (78, "")
    assert "PRODUCER_AUDIT: stdout: is where JSON is written, too (--json)" in mixed.stderr
    assert len(messages_in(folder)) == 6
    assert replay(folder, "--producer", "billing", "--json", env=env).exit_code == 0


def test_refused_again(folder: Path, tmp_path: Path) -> None:
    """What is refused stays, alone, with its attempts and its new reason; no letter comes of it."""
    (tmp_path / "picky.py").write_text(PICKY)
    env = {"PRODUCER_POOL_DEAD_LETTERS": str(folder), "PRODUCER_AUDIT": "picky:"}
    done = replay(folder, "--all", "--plugin", str(tmp_path / "picky.py"), "--json", env=env)
    left = {one.number: one for one in lines_in(folder)}

    assert done.exit_code == 1
    assert arrived("picky") == [b"1", b"2", b"", b"5"]
    assert messages_in(folder) == [b"3", b"x4"]
    assert "audit: 1 message stays: picky: not with an x" in done.stderr
    assert "billing: 1 message stays: there is no producer of this id; name one: --to billing=URL" in (
        done.stderr
    )
    assert json.loads(done.stdout)["audit"] == {
        "chosen": 5,
        "delivered": 4,
        "stay": 1,
        "why": "picky: not with an x",
    }
    assert (left[3].attempts, left[3].reason, left[3].error) == (2, "Rejected", "picky: not with an x")
    assert left[3].last > left[2].last
    assert left[3].accepted == 999.5


def test_long_reason(folder: Path, tmp_path: Path) -> None:
    """Of an error as long as a book, as much is kept as of one that is given up the first time."""
    (tmp_path / "picky.py").write_text(PICKY.replace("an x", "an x" * 10_000))
    replay(folder, "3", "--plugin", str(tmp_path / "picky.py"), "--to", "audit=picky:")

    assert len(lines_in(folder)[-1].error) == 4096


def test_one_refused_after_the_other(folder: Path, tmp_path: Path) -> None:
    """A consumer that refuses all of some letters is still there for the next ones."""
    (tmp_path / "picky.py").write_text(PICKY)
    with LetterFile(folder) as file:
        file.add([letter(b"x%d" % number) for number in range(300)])
        file.add([letter(b"last")])
    replay(folder, "4-999", "--plugin", str(tmp_path / "picky.py"), "--to", "audit=picky:")

    assert arrived("picky") == [b"last"]


def test_consumer_is_away(folder: Path) -> None:
    """Nothing is tried in vain, everything stays as it is, and the reason is told."""
    before = lines_in(folder)
    done = replay(folder, "--all", "--to", "audit=tcp://127.0.0.1:1", "--to", "billing=memory:billing")

    assert done.exit_code == 1
    assert "audit: 5 messages stay: tcp://127.0.0.1:1: connection refused" in done.stderr
    assert arrived("billing") == [b"3"]
    assert lines_in(folder) == [before[0], before[2]]


def test_damaged_letter(folder: Path) -> None:
    """It is never sent, and told of."""
    with LetterFile(folder) as file:
        file.add([letter(b"to be damaged")])
    path = folder / FILE
    path.write_bytes(path.read_bytes().replace(b"to be damaged", b"TO BE DAMAGED"))
    done = replay(folder, "1", "4", "--to", "audit=memory:audit")

    assert done.exit_code == 1
    assert arrived("audit") == [b"1", b"2"]
    assert "audit: 1 message stays: letter 4 is damaged" in done.stderr


def test_two_at_once(folder: Path) -> None:
    """The second is refused: it would send the same again. The error names the process of the first."""
    with (folder / "replay.lock").open("w+") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = replay(folder, "--all", "--to", "audit=memory:audit")

    assert done.exit_code == 1
    assert "another replay is at work there, process 4711" in done.stderr
    assert arrived("audit") == []


@pytest.mark.parametrize("to", ["audit=nothing://x", "audit=memory:audit?bufer=1"])
def test_configuration(folder: Path, to: str) -> None:
    """What cannot be used is told before anything is sent."""
    done = replay(folder, "--all", "--to", to)

    assert done.exit_code == 78
    assert len(messages_in(folder)) == 6


def test_many(tmp_path: Path) -> None:
    """More than are on their way at once go through in order."""
    MemoryClient.named("audit").clear()
    with LetterFile(tmp_path) as file:
        file.add(
            [letter(*[b"%d" % number for number in range(start, start + 10)]) for start in range(0, 6000, 10)]
        )
    done = replay(tmp_path, "--all", "--to", "audit=memory:audit")

    assert done.exit_code == 0, done.stderr
    assert arrived("audit") == [b"%d" % number for number in range(6000)]
    assert messages_in(tmp_path) == []

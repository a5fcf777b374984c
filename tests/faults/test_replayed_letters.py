"""
Dead letters from end to end, with kill -9 in the middle: of the daemon that keeps them, of the replay.

A daemon acknowledges to its sender what it keeps as dead letters: so the sender's count is the oracle. A
replay may send twice; at no time is a message neither in the folder nor at its consumer.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from producer_pool.storage.dead_letters import LetterFile
from support.arrivals import read_to_the_ends
from support.consumers import ProcessConsumer
from support.faults import report, times
from support.ledger import Ledger
from support.letters import letter, messages_in
from support.processes import Daemon, clean_environment, command, daemon
from support.waiting import eventually

GIVES_UP = "tcp://127.0.0.1:1?deadline=20ms"
"""A consumer that is never there, whose producer waits for it no longer than that."""

MANY = 60_000
"""Messages that one daemon is sent."""

HASTY = """
import asyncio
from producer_pool.plugin import hookimpl
from producer_pool.storage.dead_letters_writer import LetterWriter

take = LetterWriter.take

def say_so_at_once(self, producer_id, role, given_up, done):
    taken = take(self, producer_id, role, given_up, lambda kept: None)
    if taken:
        asyncio.get_running_loop().call_soon(done, True)
    return taken

LetterWriter.take = say_so_at_once

@hookimpl
def producer_pool_started(pool):
    pass
"""
"""A daemon that takes letters for kept which wait to be written."""

NAIVE = """
import sys
from producer_pool.cli.dead_letters_replaying import Replaying

send = Replaying._send

async def remove_first(self, pool, producer_id, letters):
    self._file.remove([letter.number for letter, _ in letters])
    return await send(self, pool, producer_id, letters)

Replaying._send = remove_first
from producer_pool.cli.entry import main
sys.argv[0] = "producer-pool"
main()
"""
"""A replay that removes letters when it begins to send them."""


# -- the daemon -------------------------------------------------------------------------------------


def killed_daemon(folder: Path, ledger: Ledger, cycle: int, *more: str) -> int:
    """Kill a daemon while it keeps what it is sent; return how many messages it had acknowledged."""
    sent = ledger.write_many(MANY, f"sender{cycle}", size=60)
    listening = ("--listen", "tcp://127.0.0.1:0?ack-after=delivered")
    arguments = ("--dead-letters", str(folder), "--to", f"audit={GIVES_UP}")
    with daemon(*listening, *arguments, *more, listens=False) as running:
        url = f"tcp://127.0.0.1:{running.port}?ack=app&retry-attempts=1"
        with subprocess.Popen(
            command("send", "--json", url),
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as sender:
            feeding = threading.Thread(target=feed, args=(sender, sent))
            feeding.start()
            enough = random.randrange(1, 8000)
            eventually(lambda: kept(running) >= enough, f"{enough} dead letters")
            time.sleep(random.random() / 20)
            running.process.kill()
            feeding.join()
            printed, said = sender.communicate()
    assert printed, said.decode()
    return int(json.loads(printed)["delivered"])


def feed(sender: "subprocess.Popen[bytes]", messages: Sequence[bytes]) -> None:
    """Give a sender its lines until it ends."""
    assert sender.stdin is not None
    with suppress(BrokenPipeError):
        for start in range(0, len(messages), 100):
            sender.stdin.write(b"\n".join(messages[start : start + 100]) + b"\n")
            sender.stdin.flush()


def kept(running: Daemon) -> int:
    return int(running.consumer("audit")["dead_lettered"])


def kill_daemons(folder: Path, kills: int, *more: str) -> tuple[int, int]:
    """Kill so many daemons on one folder; return what they acknowledged, and what of that is not there."""
    ledger = Ledger()
    acknowledged: set[bytes] = set()
    for cycle in range(kills):
        count = killed_daemon(folder, ledger, cycle, *more)
        acknowledged.update(ledger.sent[cycle * MANY : cycle * MANY + count])
    verdict = ledger.judge(messages_in(folder))

    assert not verdict.corrupt
    assert not verdict.disordered
    return len(acknowledged), len(acknowledged & set(verdict.lost))


def test_killed_daemon(tmp_path: Path) -> None:
    """What it acknowledged as taken care of is in the folder, after each kill and without a manual step."""
    kills = times(2, 30)
    acknowledged, lost = kill_daemons(tmp_path / "letters", kills)
    if not acknowledged:  # Each was killed before it had answered.
        acknowledged, lost = kill_daemons(tmp_path / "more", kills)
    report("daemon killed, dead letters, app", kills=kills, acknowledged=acknowledged, lost=lost)

    assert lost == 0
    assert acknowledged > 0


def test_control_of_a_killed_daemon(tmp_path: Path) -> None:
    """Who acknowledges what waits to be written loses that, unless it is killed when nothing waits."""
    (tmp_path / "hasty.py").write_text(HASTY)
    acknowledged = lost = kills = 0
    while not lost and kills < 10:
        kills += 1
        acknowledged, lost = kill_daemons(
            tmp_path / f"letters-{kills}", 1, "--plugin", str(tmp_path / "hasty.py")
        )
    report("daemon killed, dead letters, control: hasty", kills=kills, acknowledged=acknowledged, lost=lost)

    assert lost > 0


# -- the replay -------------------------------------------------------------------------------------


def replays(folder: Path, consumer: ProcessConsumer, *, naive: bool, kills: int) -> None:
    """Begin a replay and kill it, so often; let the last one come to its end."""
    program = [sys.executable, "-c", NAIVE] if naive else command()
    arguments = ["dead-letters", "replay", str(folder), "--all", "--to", f"audit={consumer.url}"]
    for kill in range(kills + 1):
        # What the last one left in a kernel comes first. Then, what comes shows that this one has begun.
        seen = len(read_to_the_ends(consumer))
        with subprocess.Popen(
            [*program, *arguments], env=clean_environment(), stderr=subprocess.PIPE
        ) as process:
            if kill < kills:
                begun = lambda: len(consumer.messages) > seen or process.poll() is not None  # noqa: E731, B023
                eventually(begun, "a replay that has begun")
                time.sleep(random.random() * (0.05 if naive else 0.8))
                process.kill()
            else:
                _, said = process.communicate()
                assert process.returncode == 0, said


def story(tmp_path: Path, *, naive: bool, kills: int) -> tuple[int, int, int]:
    """Replay with kills; return how many messages there were, how many never arrived, how many twice."""
    ledger = Ledger()
    folder = tmp_path / "letters"
    with LetterFile(folder) as file:
        file.add([letter(*ledger.write_many(50, size=300)) for _ in range(100 * kills)])
    # A unix socket holds little, and what a kernel holds survives the kill: so there is something to lose.
    with ProcessConsumer(rate=2_000_000, path=tmp_path / "consumer.sock") as consumer:
        replays(folder, consumer, naive=naive, kills=kills)
        lost = ledger.judge([*consumer.messages, *messages_in(folder)]).lost
        if not naive:
            consumer.wait_for(len(ledger.sent))
        verdict = ledger.judge(consumer.messages)

    assert not verdict.corrupt
    return len(ledger.sent), len(lost), len(verdict.doubled)


def test_killed_replay(tmp_path: Path) -> None:
    """Nothing is lost; what was on its way may arrive twice, and the next replay goes on where it was."""
    kills = times(2, 20)
    sent, lost, doubled = story(tmp_path, naive=False, kills=kills)
    report("replay of dead letters killed", kills=kills, sent=sent, lost=lost, doubled=doubled)

    assert lost == 0
    assert messages_in(tmp_path / "letters") == []


def test_control_of_a_killed_replay(tmp_path: Path) -> None:
    """Who removes letters before they are delivered loses what was on its way."""
    sent = lost = doubled = tries = 0
    while not lost and tries < 5:  # It may have been through each time that it was killed.
        tries += 1
        folder = tmp_path / f"try{tries}"
        folder.mkdir()
        sent, lost, doubled = story(folder, naive=True, kills=2)
    report("replay of dead letters killed, control: removes first", sent=sent, lost=lost, doubled=doubled)

    assert lost > 0

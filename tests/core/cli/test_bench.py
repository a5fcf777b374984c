"""``producer-pool bench``, for real: short, and without a look at any time."""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from producer_pool.cli.benching import measuring
from producer_pool.cli.benching.bar import Bar
from producer_pool.cli.benching.elsewhere import Elsewhere
from producer_pool.cli.benching.figures import Outcome
from producer_pool.cli.benching.plan import Plan
from producer_pool.cli.processes import ProcessError
from producer_pool.discovery.registry import Registry
from support.consumers import reserved_port
from support.processes import clean_environment, command, daemon, marked
from support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

THERE = ["--to", "tcp://127.0.0.1:9", "--listen", "tcp://127.0.0.1:0"]
"""A daemon that does not run."""


def bench(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a bench to its end. It starts many processes, one after the other."""
    return subprocess.run(
        command("bench", *arguments),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
    )


def measured(*arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a short bench, and return the object that it prints."""
    done = bench("--seconds", "1", "--consumers", "2", "--json", *arguments)

    assert done.returncode == code, done.stderr.decode()
    assert done.stderr == b""
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        ("--over", "tcp"),
        ("--over", "udp"),
        ("--over", "ws", "--producers", "3"),
        ("--over", "unix?framing=length4", "--producers", "2", "--batch", "7", "--from", "tcp"),
    ],
    ids=" ".join,
)
def test_every_message_is_verified(arguments: tuple[str, ...]) -> None:
    """Flat out and by a schedule, all arrives at each consumer, through a real daemon."""
    value = measured(*arguments)

    assert value["intact"]
    assert [load["load"] for load in value["loads"]] == ["flat out", "at 10,000/s"]
    for load in value["loads"]:
        (way,) = load["ways"]
        assert way["messages"] > 0
        assert way["deliveries"] == 2 * way["messages"] == sum(count for _, count in way["histogram_us"])
        assert set(way["faults"].values()) == {0}


def test_daemon_that_runs_already() -> None:
    """Messages go to where it listens, and are verified where its consumers are; it goes on afterwards."""
    with reserved_port() as first, reserved_port() as second:
        places = [f"tcp://127.0.0.1:{held.getsockname()[1]}?framing=nul" for held in (first, second)]
        soon = "&retry-max-backoff=100ms"
        consumers = [argument for place in places for argument in ("--to", place + soon)]
        with daemon(*consumers) as there:
            to = f"tcp://127.0.0.1:{there.port}"
            listen = [argument for place in places for argument in ("--listen", place)]
            done = bench("--to", to, *listen, "--seconds", "1", "--json")

            assert there.terminate() == 0
    assert done.returncode == 0, done.stderr.decode()
    value = json.loads(done.stdout)
    assert value["intact"]
    assert value["settings"]["to"] == to
    assert value["settings"]["listen"] == places
    assert value["settings"]["over"] is None
    for load in value["loads"]:
        (way,) = load["ways"]
        assert way["deliveries"] == 2 * way["messages"] > 0
        assert way["relay_busy"] is way["relay_memory_bytes"] is None


def test_consumer_that_the_daemon_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that arrives nowhere is not waited for for ever: the error names the place."""
    monkeypatch.setattr(measuring, "_KNOCK", 0.3)
    with daemon("--to", "null:") as running:
        listen = ["tcp://127.0.0.1:0?framing=nul"]
        there = Elsewhere.of(f"tcp://127.0.0.1:{running.port}", listen, Registry())
        plan = Plan.made([there], None, size=9, parties=(1, 1), batch=1, rates=[None], seconds=1)

        with pytest.raises(
            ProcessError, match=r"not arrive at tcp://127.0.0.1:0\S* within 0.3 s; does the d"
        ):
            measuring.measure(plan, Outcome(plan, 1), Bar(shown=False))


def test_what_a_relay_loses_is_found() -> None:
    """A relay that was told to drop loses messages: they are counted, and the exit code says so."""
    lossy = "tcp?buffer=20KiB&overflow=drop-newest"
    value = measured("--over", lossy, "--flat-out", code=1)

    assert not value["intact"]
    assert value["loads"][0]["ways"][0]["faults"]["lost"] > 0


def test_two_are_compared(tmp_path: Path) -> None:
    """With a spool before both, in a folder that is empty again; and with a picture."""
    spool, picture = tmp_path / "spool", tmp_path / "bench.svg"
    spool.mkdir()
    value = measured(
        *("--over", "tcp?ack=app", "--against", "tcp+tls", "--rate", "500/s", "--batch", "5"),
        *("--spool", str(spool), "--spool-sync", "os", "--svg", str(picture)),
    )

    (load,) = value["loads"]
    assert value["intact"]
    assert [way["over"] for way in load["ways"]] == ["tcp?ack=app", "tcp+tls"]
    assert len({way["runs"] for way in load["ways"]}) == 1
    assert set(load["ratios"]) >= {"p50", "p99"}
    assert list(spool.iterdir()) == []
    assert "at 500/s, tcp+tls" in picture.read_text()


@pytest.mark.parametrize(
    "arguments,code,text",
    [
        (["--over", "tpc"], 78, "no installed plugin handles tpc://; installed: "),
        (["--over", "tcp?bufer=1"], 78, "tcp has no option bufer; known: "),
        (["--over", "tcp?idle-timeout=soon"], 78, "idle-timeout"),
        (["--over", "null"], 78, "null only sends"),
        (["--size", "0"], 78, "a message of 0 bytes has no room for its number"),
        (["--size", "3"], 78, "has no room for its number; here it takes "),
        (["--size", "many"], 2, "is not a size in bytes such as 4096"),
        (["--rate", "fast"], 2, "is not a rate such as 1000"),
        (["--spool", "/nowhere"], 2, "'/nowhere' does not exist"),
        (["--spool-sync", "os"], 2, "--spool-sync needs --spool"),
        (["--client-option", "x"], 2, "x is not of the form NAME=VALUE"),
        (["--over", "tcp://192.0.2.1:0"], 78, "192.0.2.1"),
        (["--to", "tcp://127.0.0.1:9"], 2, "--to needs --listen, too"),
        (["--listen", "tcp://127.0.0.1:0"], 2, "--listen needs --to, too"),
        ([*THERE, "--listen", "tcp://127.0.0.1:0"], 78, "--listen names a URL twice"),
        ([*THERE, "--consumers", "4"], 2, "--consumers is for a relay that bench starts"),
        ([*THERE, "--from", "tcp"], 2, "--from is for a relay that bench starts"),
        ([*THERE, "--listen", "null:"], 78, "null only sends; it cannot listen"),
        (["--to", "tpc://h:1", "--listen", "null:"], 78, "no installed plugin handles tpc://"),
        (["--to", "tcp://h:1?buffer=1MiB", "--listen", "null:"], 78, "a client alone has no buffer="),
        (THERE, 1, "tcp://127.0.0.1:9: connection refused; is it running?"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], code: int, text: str) -> None:
    """An error says what is wrong, and nothing starts."""
    done = bench(*arguments)

    assert done.returncode == code, done.stderr.decode()
    assert text in " ".join(done.stderr.decode().split())
    assert done.stdout == b""


def test_port_in_use() -> None:
    """Consumers cannot share a port: who names one is told."""
    with reserved_port() as held:
        port = held.getsockname()[1]
        done = bench("--over", f"tcp://127.0.0.1:{port}", "--consumers", "2")

    assert done.returncode == 1, done.stderr.decode()
    assert f"tcp://127.0.0.1:{port}: address already in use; stop who has it" in done.stderr.decode()


@contextmanager
def long_bench() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a bench that takes long, its processes with a mark, and wait until they are all there."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command("bench", "--seconds", "600", "--consumers", "2", "--rate", "100/s"),
        env=clean_environment({"MARK": mark}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The bench itself, consumers, a relay, a sender.
        eventually(lambda: len(marked(mark)) >= 4, "all processes of the bench")
        yield process, mark
    finally:
        process.kill()
        process.communicate()
        for pid in marked(mark):
            with suppress(ProcessLookupError):  # It ends by itself just now.
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: int) -> None:
    """Ctrl-C, or a kill, ends all of its processes, and what there was so far is not lost."""
    with long_bench() as (process, mark):
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

        assert process.returncode == 1
        assert "producer-pool: interrupted; " in err
        assert marked(mark) == []


def test_killed() -> None:
    """Nothing of it goes on for long when it is killed, and can end nobody."""
    with long_bench() as (process, mark):
        process.kill()
        process.wait()

        eventually(lambda: marked(mark) == [], "the end of all processes of the bench")

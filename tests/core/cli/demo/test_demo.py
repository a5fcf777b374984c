"""The demo, for real: what ``make run`` runs."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.processes import clean_environment, marked

BOUND = 120


@contextmanager
def demo() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo with a mark that its processes inherit."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "producer_pool.cli.demo"],
        env=clean_environment({"MARK": mark, "PRODUCER_X": "this must not disturb it"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process, mark
    finally:
        process.kill()
        process.communicate()
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(BOUND)
def test_demo_accounts_for_every_message() -> None:
    """It ends with 0 and a row for each consumer, and leaves nothing running."""
    with demo() as (process, mark):
        text, _ = process.communicate(timeout=BOUND)

        assert process.returncode == 0, text
        assert marked(mark) == []

    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"[abc]  ", line)}
    sent = rows["a"][0]
    for name, lost in (("a", "0"), ("b", "1,000"), ("c", "0")):
        assert rows[name][:7] == [sent, sent, "0", "0", "0", "0", "kernel"]
        assert rows[name][8:] == [lost, "all"]
    assert "receive buffer held 17,000 bytes, which is 1,000 messages" in text
    assert "Every message is accounted for, in order, and none came twice." in text
    assert "producer-pool run --listen tcp://127.0.0.1:9100 --to a=tcp://127.0.0.1:9000" in text


@pytest.mark.timeout(BOUND)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_leaves_nothing_running(number: int) -> None:
    """Ctrl-C, or a kill, ends all of its processes."""
    with demo() as (process, mark):
        assert process.stdout is not None
        while " listen " not in (line := process.stdout.readline()):
            assert line
        process.send_signal(number)
        text, _ = process.communicate(timeout=BOUND)

        assert process.returncode == 130, text
        assert "nothing is left running" in text
        assert marked(mark) == []

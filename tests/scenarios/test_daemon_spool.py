"""A daemon with a spool: what it says of it, what its end keeps, and what the next one finds."""

from pathlib import Path

from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.processes import daemon, run_command
from support.producers import send_lines


def test_end_with_a_consumer_that_is_down(tmp_path: Path) -> None:
    """It ends with 0 and says where what remained is; the next one delivers it, before anything new."""
    spool = str(tmp_path / "spool")
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        RecordingConsumer(listens=False) as down,
    ):
        to = ("--to", f"well={well.url}", "--to", f"down={down.url}", "--spool", spool)
        with daemon(*to, "--drain", "300ms") as running:
            send_lines(running.port, ledger.write_many(1000))
            well.wait_for(1000)
            running.settled("well", 1000)

            assert running.terminate() == 0
            assert f", spool {spool}" in running.said
            assert "well: 1,000 accepted, 1,000 delivered (kernel); nothing remained" in running.lines
            assert (
                f"down: 1,000 accepted, 0 delivered (kernel); 1,000 remained, stored in {spool}"
                in running.lines
            )
            assert running.last["consumers"]["down"]["left_stored"] == 1000
            assert running.last["spool"] == {"folder": spool, "trouble": None, "unstored": 0}

        down.come_back()
        with daemon(*to) as running:
            send_lines(running.port, ledger.write_many(10))
            running.settled("down", 1010)

            assert running.terminate() == 0
            assert "down: 1,000 messages lie in the spool, and go out first" in running.said
            assert "down: 1,010 accepted, 1,010 delivered (kernel); nothing remained" in running.lines
            assert "well: 10 accepted, 10 delivered (kernel); nothing remained" in running.lines
        assert ledger.judge(down.wait_for(1010)).exact
        assert ledger.judge(well.wait_for(1010)).exact


def test_consumer_that_is_configured_no_more(tmp_path: Path) -> None:
    """The next daemon says once whose messages lie there, how many, and how to drop them; which works."""
    spool = str(tmp_path / "spool")
    ledger = Ledger()
    with RecordingConsumer() as well, RecordingConsumer(listens=False) as gone:
        with daemon(
            *("--to", f"well={well.url}", "--to", f"gone={gone.url}"),
            *("--spool", spool, "--drain", "0s"),
        ) as running:
            send_lines(running.port, ledger.write_many(100))
            well.wait_for(100)
            running.terminate()
        with daemon("--to", f"well={well.url}", "--spool", spool) as running:
            line = running.wait_for_line("lie in the spool for gone")

            assert "100 messages, " in line
            assert line.endswith(f"producer-pool spool forget {spool} gone")
            assert running.terminate() == 0
        forgotten = run_command("spool", "forget", spool, "gone", "--yes")

        assert forgotten.returncode == 0, forgotten.stderr
        with daemon("--to", f"well={well.url}", "--spool", spool) as running:
            assert running.terminate() == 0
            assert "lie in the spool for gone" not in running.said


def test_two_daemons_want_one_spool(tmp_path: Path) -> None:
    """The second one does not start, and names the process that has it."""
    with (
        RecordingConsumer() as well,
        daemon("--to", f"well={well.url}", "--spool", str(tmp_path)) as running,
    ):
        second = run_command(
            "run", "--listen", "tcp://127.0.0.1:0", "--to", f"well={well.url}", "--spool", str(tmp_path)
        )

        assert second.returncode == 1
        assert f"in use by process {running.process.pid}" in second.stderr.decode()

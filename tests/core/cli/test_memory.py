"""Memory that batches leave behind is used again."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import clean_environment, run_program
from support.waiting import BOUND

COMES_AND_GOES = """
import resource, sys
from collections import deque
from producer_pool.cli.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
flying = deque()
for number in range(1000):
    if number == 100:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    flying.append(b"x" * 200_000)
    # Now and then all are confirmed, as by an acknowledgement of all that was sent.
    if len(flying) == 16:
        flying.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rule is one of glibc")

# As in docs/how-to/threads.md.
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024)}
TRIMMED = {"MALLOC_TRIM_THRESHOLD_": str(8 * 1024 * 1024)}


def faults(how: str, **variables: str) -> int:
    """Return how many pages a process faulted in for 900 batches that came and went."""
    command = [sys.executable, "-c", COMES_AND_GOES, how]
    # Whoever runs this may have such variables, too.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environ.update(variables)
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60, env=environ).stdout)


@glibc
def test_batches_that_come_and_go() -> None:
    """Their pages are faulted in once and used again; without it, each batch costs a fault for every page."""
    assert faults("kept") * 10 < faults("given back")


@glibc
@pytest.mark.parametrize("alone", [MAPPED, TRIMMED])
def test_the_same_by_environment(alone: dict[str, str]) -> None:
    """A program that embeds a pool gets the same with two variables, and not with one of them."""
    assert faults("given back", **MAPPED, **TRIMMED) * 10 < faults("given back", **alone)


def test_start_is_not_gone_through_for_garbage() -> None:
    """What was there when the work began is left alone; what comes later is collected."""
    run_program("""
        import gc
        from producer_pool.cli.memory import begin_without_collecting, collect_from_now_on

        begin_without_collecting()
        assert not gc.isenabled()
        early = []
        collect_from_now_on()
        assert gc.isenabled() and gc.get_freeze_count() > 1000
        assert not any(one is early for one in gc.get_objects())
        late = []
        assert any(one is late for one in gc.get_objects())
    """)


def test_program_that_collects_is_left_alone() -> None:
    """Who uses a command inside of a program of its own keeps the collector as it is."""
    run_program("""
        import gc
        from producer_pool.cli.memory import collect_from_now_on

        collect_from_now_on()
        assert gc.isenabled() and gc.get_freeze_count() == 0
    """)


COMMAND = """
import gc
from producer_pool.cli import entry

def end():
    print("collects:", gc.isenabled(), gc.get_freeze_count() > 1000)
    really()

really, entry.collect_at_the_end = entry.collect_at_the_end, end
entry.main()
"""
FORGETS = """
import keeps_a_log
from producer_pool.plugin import hookimpl

keeps_a_log.LOG.write("written")

class Observer:
    def __init__(self):
        self.log = open("observer.log", "a")
        self.log.write("written")

    def state_changed(self, health):
        pass

    def settled(self, producer_id, outcome, count):
        pass

@hookimpl
def producer_pool_observer(pool):
    return Observer()
"""


def test_program_that_does_not_collect_is_left_alone() -> None:
    """Not even by a command from its beginning to its end."""
    run_program("""
        import gc, sys
        from producer_pool.cli import main

        gc.disable()
        sys.argv = ["producer-pool", "plugins", "list"]
        try:
            main()
        except SystemExit:
            pass
        assert not gc.isenabled() and gc.get_freeze_count() == 0
    """)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["run", "--to", "x"], ["plugins", "list"]], ids=" ".join
)
def test_program_gets_its_collector_back(arguments: list[str]) -> None:
    """Also where a command has come to nothing."""
    run_program(
        """
        import gc
        from producer_pool.cli import main

        try:
            main()
        except SystemExit:
            pass
        assert gc.isenabled() and gc.get_freeze_count() == 0
        """,
        *arguments,
    )


@pytest.mark.parametrize(
    "to, code, log", [("null:", 0, "observer.log"), ("x", 78, "module.log")], ids=["end", "error"]
)
def test_what_a_plugin_forgot_to_close(tmp_path: Path, to: str, code: int, log: str) -> None:
    """It is written at the end, as in any program: nobody else would come to it."""
    plugin = tmp_path / "forgets.py"
    plugin.write_text(FORGETS)
    (tmp_path / "keeps_a_log.py").write_text('LOG = open("module.log", "a")')
    arguments = ["run", "--plugin", str(plugin), "--listen", "tcp://127.0.0.1:0", "--to", to]
    with subprocess.Popen(
        [sys.executable, "-m", "producer_pool", *arguments],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if code == 0:
            assert process.stderr is not None
            while "up" not in (line := process.stderr.readline()):
                assert line, "it ended before it was up"
            process.terminate()
        process.communicate(timeout=BOUND)

    assert process.returncode == code
    assert (tmp_path / log).read_text() == "written"


@pytest.mark.parametrize("arguments", [["check", "--to", "null:"], ["plugins", "list"]], ids=" ".join)
def test_commands_collect(arguments: list[str]) -> None:
    """Garbage is looked for when a command begins its work."""
    assert run_program(COMMAND, *arguments).stdout.endswith("collects: True True\n")


def test_daemon_collects() -> None:
    """A daemon looks for garbage when it has begun to listen, and until its end."""
    arguments = [sys.executable, "-c", COMMAND, "run", "--listen", "tcp://127.0.0.1:0", "--to", "null:"]
    with subprocess.Popen(
        arguments, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("listen") for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            printed, said = process.communicate(timeout=BOUND)
        finally:
            process.kill()

    assert printed == "collects: True True\n", said

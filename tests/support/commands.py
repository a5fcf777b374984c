"""Commands that go on until somebody ends them, with all that they say in files."""

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes import clean_environment, command
from support.waiting import BOUND, eventually

__all__ = ["Running", "started"]


class Running:
    """A ``producer-pool`` command that was started."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def printed(self) -> bytes:
        """What is on stdout so far."""
        return (self._folder / "stdout").read_bytes()

    @property
    def said(self) -> str:
        """What is on stderr so far."""
        # What was read last may end inside of a character.
        return (self._folder / "stderr").read_text(errors="replace")

    @property
    def url(self) -> str:
        """Where a sink listens, as soon as it says so."""
        return self.wait_for(r"^listening at (\S+)$")[1]

    @property
    def port(self) -> int:
        """The port of that."""
        return int(self.url.partition("?")[0].rpartition(":")[2])

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of *pattern* in what it says, as soon as there is one."""

        def look() -> re.Match[str] | None:
            code = self.process.poll()  # first: it may end directly after it has said that
            found = re.search(pattern, self.said, re.MULTILINE)
            assert found or code is None, f"it ended with {code}: {self.said}"
            return found

        found = eventually(look, f"{pattern!r} on stderr")
        assert found is not None
        return found

    def wait_for_printed(self, size: int) -> bytes:
        """Return what is on stdout as soon as it is *size* bytes or more."""
        eventually(lambda: len(self.printed) >= size, f"{size} bytes on stdout")
        return self.printed

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; it said: {self.said}") from None

    def write(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()


@contextmanager
def started(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[Running]:
    """Run ``producer-pool`` with *arguments* until the end of the block; *folder* is for what it says."""
    own = folder / f"{arguments[0]}-{len(list(folder.iterdir()))}"
    own.mkdir()
    with (own / "stdout").open("wb") as stdout, (own / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command(*arguments), env=clean_environment(env), stdin=stdin, stdout=stdout, stderr=stderr
        )
    try:
        yield Running(process, own)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it ended without reading all of it
                process.stdin.close()

"""What `conftest.py` does to a test, shown on tests in a folder of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = """
import subprocess, sys
import pytest

@pytest.mark.needs("no-such-program")
def test_needs():
    pass

@pytest.mark.needs("sh")
def test_has():
    pass

def test_leaves():
    global process
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

def test_after_it():
    assert process.wait(5) == -9

def test_ends():
    subprocess.Popen([sys.executable, "-c", ""]).wait()
"""


@pytest.mark.parametrize("required", [False, True])
def test_plumbing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    """A missing program is a skip by name, or an error where CI asks for it; so is a process left behind."""
    monkeypatch.setenv("PRODUCER_POOL_REQUIRE_SYSTEM", str(int(required)))
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs: here, too\n")
    plain = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "-q"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, "."], cwd=tmp_path, capture_output=True, text=True
    )

    reason = "needs the program no-such-program, see requirements/apt.txt"
    assert ("4 passed, 2 errors" if required else "4 passed, 1 skipped, 1 error") in done.stdout
    assert (f"test_sample.py::test_needs: {reason}" in done.stdout) is not required
    assert reason in done.stdout
    assert "ERROR test_sample.py::test_leaves - Failed: left running: " in done.stdout

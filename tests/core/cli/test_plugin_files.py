"""Commands that take a protocol in a file of its own."""

from pathlib import Path

from support.commands import started
from support.processes import run_command
from support.zoo.daemon import SOURCE


def test_protocol_in_a_file_at_both_ends(tmp_path: Path) -> None:
    """`send` and `sink` speak it as if it were installed."""
    plugin = tmp_path / "zoo.py"
    plugin.write_text(SOURCE)
    with started(tmp_path, "sink", "zoo://127.0.0.1:0", "--count", "1", "--plugin", str(plugin)) as sink:
        done = run_command("send", sink.url, "hello", "--plugin", str(plugin))

        assert done.returncode == 0, done.stderr
        assert sink.ended() == 0
    assert sink.printed == b"hello\n"


def test_file_that_is_no_plugin(tmp_path: Path) -> None:
    """An error that names it, and no traceback."""
    plugin = tmp_path / "broken.py"
    plugin.write_text("import no_such_module_here\n")
    done = run_command("send", "zoo://127.0.0.1:1", "hello", "--plugin", str(plugin))

    assert done.returncode == 78
    assert b"broken.py" in done.stderr
    assert b"no_such_module_here" in done.stderr
    assert b"Traceback" not in done.stderr

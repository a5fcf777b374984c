"""A plain command line, read without click."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.cli.run import run
from producer_pool.cli.words import plain_options
from producer_pool.discovery.config import SETTINGS

FLAGS = ["--to", *(setting.flag for setting in SETTINGS.values())]
VALUES = ["tcp://127.0.0.1:9000", "a=null:?timeout=5s", "10s", "", " ", "=", "a=", "1", "yes", "ü", "\udcff"]
NOT_PLAIN = ["-", "--", "-h", "--help", "-t", "--t", "--To", "--tos", "--to=", "--json=yes", "---to", "@file"]

words = st.lists(
    st.one_of(
        st.sampled_from(FLAGS),
        st.sampled_from(VALUES),
        st.sampled_from(NOT_PLAIN),
        st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from(VALUES)),
    ),
    max_size=8,
)


@given(words)
def test_as_click_reads_it(words: list[str]) -> None:
    """What is read without click is what click makes of the same words; whatever it refuses is left to it."""
    plain = plain_options(words)
    if plain is not None:
        with run.make_context("run", list(words)) as context:
            assert context.params == plain


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--to", "tcp://127.0.0.1:9000"],
        ["--listen=tcp://127.0.0.1:9100", "--to", "a=null:", "--to=b=null:", "--json", "--drain", "1s"],
        [word for flag in FLAGS for word in ([flag] if flag == "--json" else [flag, "value"])],
    ],
)
def test_control_usual_lines_are_plain(words: list[str]) -> None:
    """Each option, and those of every day, are read here."""
    assert plain_options(words) is not None


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--to"],
        ["--to", "--json"],
        ["--to", "-"],
        ["--json=yes"],
        ["--jsn"],
        ["--to", "null:", "word"],
        ["--"],
    ],
)
def test_what_click_is_to_say(words: list[str]) -> None:
    """Help, mistakes, and what could be one: click knows what to say."""
    assert plain_options(words) is None


def test_control_click_refuses_some_of_it() -> None:
    """The first test would notice if something was read that is none."""
    with pytest.raises(click.UsageError):
        run.make_context("run", ["--jsn"])


def test_daemon_without_the_extra() -> None:
    """A daemon is started without click: what it complains of is its settings."""
    code = (
        "import sys; sys.modules['click'] = None; sys.argv[1:] = ['run', '--to', 'tpc://x']; "
        "from producer_pool.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 78
    assert "no installed plugin handles tpc://" in done.stderr


def test_shells_ask_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a shell asks how a command might go on, nothing is started."""
    monkeypatch.setenv("_PRODUCER_POOL_COMPLETE", "bash_source")
    done = subprocess.run(
        [sys.executable, "-m", "producer_pool", "run"], capture_output=True, text=True, check=True
    )

    assert "_PRODUCER_POOL_COMPLETE=bash_complete" in done.stdout

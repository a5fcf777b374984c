"""Configuration files, and each key that can be wrong in one."""

import textwrap
from pathlib import Path

import pytest

from producer_pool.discovery.layer import Layer
from producer_pool.discovery.tomlfile import read_file
from producer_pool.model.errors import ConfigurationError

WHOLE = """
[pool]
listen = ["tcp://127.0.0.1:9100", "unix:/run/pp.sock"]
buffer = 1048576
drain = 2.5
policy = "relay"

[producers.billing]
url = "tcp://127.0.0.1:9000?framing=nul"
buffer = "1MiB"
timeout = 5
retry-attempts = 3

[producers.Archive_2]
url-file = "archive.url"

[plugins]
allow = ["producer-pool-tcp"]
deny = ["Other_One"]
use = { "tcp+tls" = "acme-tcp" }
"""


def read(folder: Path, text: str) -> Layer:
    file = folder / "pool.toml"
    file.write_text(textwrap.dedent(text))
    return read_file(file)


def test_whole_file(tmp_path: Path) -> None:
    """All tables are read; values are texts that know their file, table and key."""
    (tmp_path / "archive.url").write_text("unix:/run/archive\n")
    layer = read(tmp_path, WHOLE)
    origin = f"{tmp_path / 'pool.toml'}: [pool]"

    assert [value.text for value in layer.values["listen"]] == ["tcp://127.0.0.1:9100", "unix:/run/pp.sock"]
    assert layer.values["buffer"] == (("1048576", f"{origin} buffer"),)
    assert layer.values["drain"] == (("2.5", f"{origin} drain"),)
    assert {one.id: one.url for one in layer.producers.values()} == {
        "billing": "tcp://127.0.0.1:9000?framing=nul&timeout=5&buffer=1MiB&retry-attempts=3",
        "archive-2": "unix:/run/archive",
    }
    assert layer.producers["billing"].origin == f"{tmp_path / 'pool.toml'}: [producers.billing]"
    assert layer.plugins.allow == frozenset({"producer-pool-tcp"})
    assert layer.plugins.deny == {"other-one"}
    assert layer.plugins.choice("tcp+tls") == "acme-tcp"


@pytest.mark.parametrize("text,value", [("true", "yes"), ("false", "no"), ('"yes"', "yes"), ('"no"', "no")])
def test_setting_that_is_on_or_off(tmp_path: Path, text: str, value: str) -> None:
    """TOML has words of its own for it; those of a variable do as well."""
    layer = read(tmp_path, f"[pool]\njson = {text}")

    assert layer.values["json"][0].text == value


def test_empty_file(tmp_path: Path) -> None:
    """It says nothing."""
    assert vars(read(tmp_path, "")) == vars(Layer())


@pytest.mark.parametrize(
    "text, message",
    [
        ("[pool", "Expected ']' at the end of a table declaration"),
        ("[pol]", r" has no key pol; known: pool, producers, plugins; did you mean pool\?"),
        ("pool = 1", r"pool is a table; write \[pool\]"),
        ("[pool]\nbufer = 1", r"\[pool\] has no key bufer; known: .*; did you mean buffer\?"),
        ("[pool]\nconfig = 'x'", r"\[pool\] has no key config"),
        ("[pool]\nbuffer = [1, 2]", r"\[pool\] buffer takes one value"),
        ("[pool]\nbuffer = 2026-01-01", r"\[pool\] buffer is a date; write a string or a number"),
        ("[pool]\njson = 'maybe'", r"\[pool\] json is 'maybe'; write true or false"),
        ("[pool]\njson = 1", r"\[pool\] json is '1'; write true or false"),
        ("[pool]\nlog-level = true", r"\[pool\] log-level is true or false; write debug\|info\|warning"),
        ("[producers]\nx = 'null:'", r'\[producers.x\] is a table; write url = "tcp://host:port" into it'),
        ("[producers.x]", r"\[producers.x\] needs either url or url-file"),
        ("[producers.x]\nurl='null:'\nurl-file='x'", r"\[producers.x\] needs either url or url-file"),
        (
            "[producers.x]\nurl='null:'\noverflw='block'",
            r"\[producers.x\] has no key overflw; .*mean overflow\?",
        ),
        ("[producers.x]\nurl='nowhere'", r"\[producers.x\] url is no URL; write url = "),
        ("[producers.x]\nurl=1", r"\[producers.x\] url is no URL"),
        (
            "[producers.x]\nurl-file='not-there'",
            r"\[producers.x\] url-file should name a file that holds a URL",
        ),
        (
            "[producers.x]\nurl='null:?buffer=1'\nbuffer=2",
            r"\[producers.x\]: .*buffer.* twice",
        ),
        (
            "[producers.x-file]\nurl='null:'",
            r"\[producers.x-file\]: the id of a producer does not end in -file",
        ),
        ("[producers.'a b']\nurl='null:'", r"\[producers.a b\]: an id starts with"),
        ("[producers.a_b]\nurl='null:'\n[producers.a-b]\nurl='null:'", "both name the producer a-b"),
        ("[plugins]\nallowed=[]", r"\[plugins\] has no key allowed; known: .*; did you mean allow\?"),
        ("[plugins]\nallow='x'", r"\[plugins\] allow is a list of distributions"),
        ("[plugins]\nuse=['x']", r"\[plugins\] use is a table: scheme = distribution"),
    ],
)
def test_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the table and the key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path, text)

    assert str(tmp_path / "pool.toml") in str(caught.value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The error names it and why."""
    with pytest.raises(ConfigurationError, match=r"none.toml: cannot be read: No such file or directory"):
        read_file(tmp_path / "none.toml")
    (tmp_path / "pool.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"pool.toml: .*utf-8"):
        read_file(tmp_path / "pool.toml")


def test_secret_in_a_file(tmp_path: Path) -> None:
    """It is not shown, neither in an error nor in what was read."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, "[producers.x]\nurl='tcp://u:hunter2@h:1 x'")

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(read(tmp_path, "[producers.x]\nurl='tcp://u:hunter2@h:1'"))

"""``producer-pool plugins``."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from producer_pool.cli.group import cli
from support.zoo.daemon import SOURCE


def plugins(*arguments: str) -> Result:
    """Run ``producer-pool plugins``."""
    return CliRunner().invoke(cli, ["plugins", *arguments])


def test_list() -> None:
    """A line for each scheme, with the distribution and its version."""
    done = plugins("list")

    assert done.exit_code == 0
    rows = {tuple(line.split()[:3]) for line in done.stdout.splitlines()}
    assert {("tcp", "producer-pool-tcp", "0.1.0"), ("stdout", "producer-pool", "0.1.0")} <= rows


def test_list_as_json() -> None:
    """The same as an array of objects."""
    found = {one["scheme"]: one for one in json.loads(plugins("list", "--json").stdout)}

    assert found["tcp"]["distribution"] == "producer-pool-tcp"
    assert found["tcp"]["refused"] is None
    assert found["null"]["module"].startswith("producer_pool.builtin")


def test_show() -> None:
    """Guarantees, and every option of either end with its type, default and a sentence."""
    done = plugins("show", "tcp")

    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert done.exit_code == 0
    assert "distribution  producer-pool-tcp" in lines
    assert "acks          written, kernel, app" in lines
    assert "loopback      tcp://127.0.0.1:0" in lines
    assert [line for line in lines if line.startswith("location      /")]
    assert rows["buffer"].split()[1:4] == ["size", "64MiB", "64MiB"]
    assert rows["overflow"].split()[2:4] == ["drop-oldest", "reject"]
    assert rows["retry-attempts"].split()[2:4] == ["unlimited", "1"]
    assert rows["dead-letters"].split()[2:4] == ["-", "-"]
    assert ["OPTION", "TYPE", "RELAY", "DIRECT", "WHAT", "IT", "SAYS"] in [line.split() for line in lines]
    assert rows["nodelay"].split()[1:3] == ["yes|no", "yes"]
    assert rows["timeout"].split()[1:3] == ["duration", "10s"]
    assert rows["max-connections"].split()[1:3] == ["number", "1000"]
    assert all(line == line.rstrip() for line in lines)


def test_show_as_json() -> None:
    """The same as an object; a scheme may be written as in a URL."""
    told = json.loads(plugins("show", "tcp://", "--json").stdout)

    assert told["guarantees"]["acks"] == ["written", "kernel", "app"]
    assert told["guarantees"]["loopback"] == "tcp://127.0.0.1:0"
    assert {"framing", "timeout"} <= {option["name"] for option in told["client_options"]}
    delivery = {option["name"]: option["defaults"] for option in told["delivery_options"]}
    assert delivery["overflow"] == {"relay": "drop-oldest", "direct": "reject"}
    assert delivery["deadline"] == {"relay": "24h", "direct": "timeout"}
    assert "tail" in {option["name"] for option in told["listener_options"]}
    assert told["plugin"]["scheme"] == "tcp"


def test_show_what_only_sends() -> None:
    """A transport without a listener has no options of one."""
    told = json.loads(plugins("show", "null", "--json").stdout)

    assert told["guarantees"]["listens"] is False
    assert "listener_options" not in told


def test_show_what_is_in_a_file(tmp_path: Path) -> None:
    """A plugin that is not installed yet can be looked at, too."""
    (tmp_path / "zoo.py").write_text(SOURCE)
    told = json.loads(plugins("show", "zoo", "--json", "--plugin", str(tmp_path / "zoo.py")).stdout)

    assert told["guarantees"]["loopback"] == "zoo://127.0.0.1:0"
    assert plugins("show", "zoo", "--plugin", str(tmp_path / "none.py")).exit_code == 78


def test_show_unknown_scheme() -> None:
    """It is an error with the nearest one that there is."""
    done = plugins("show", "tpc")

    assert done.exit_code == 78
    assert "did you mean tcp?" in done.stderr

"""``producer-pool plugins check``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from producer_pool.cli import certifying
from producer_pool.cli.certifying import Done, Progress
from producer_pool.cli.group import cli
from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result as Ended
from producer_pool.testing.running import Verdict
from producer_pool.testing.subject import Subject
from producer_pool.testing.waning import WaningPatience
from support.certificates import Authority
from support.processes import run_command, run_program
from support.zoo.daemon import SOURCE

QUICK = ("closes-twice", "reconnects", "has-an-address")


def check(*arguments: str, rules: tuple[str, ...] = ()) -> Result:
    """Run ``producer-pool plugins check``, in this process."""
    named = [word for rule in rules for word in ("--rule", rule)]
    return CliRunner().invoke(cli, ["plugins", "check", *arguments, *named])


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """Return a healthy plugin as a file, to which a fault can be added."""
    path = tmp_path / "zoo_here.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("zoo_here", None)


def test_scheme_that_keeps_the_rules() -> None:
    """What it declares, a line for each rule in the order of the suite, and the sum; all is well."""
    done = check("tcp", "--seed", "7", rules=QUICK)

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert {"distribution  producer-pool-tcp", "ordered       yes"} <= {*lines}
    assert any(line.startswith("acks          written, kernel") for line in lines)
    assert {"binary safe   yes", "max message   -", "tried at      tcp://127.0.0.1:0"} <= {*lines}
    assert "seed          7" in lines
    rows = [line.split()[:2] for line in lines if line.split()[:1] and line.split()[0] in QUICK]
    assert rows == [["closes-twice", "kept"], ["reconnects", "kept"], ["has-an-address", "kept"]]
    assert lines[-1] == "3 rules: 3 kept, 0 broken, 0 skipped"
    assert done.stderr == ""


def test_rule_that_is_broken(plugin: Path) -> None:
    """It is named with what was seen, how to mend it, and how to see it again; the others go on."""
    with plugin.open("a") as file:
        file.write("ZooClient.address = property(lambda client: '', lambda client, address: None)\n")
    done = check("zoo", "--plugin", str(plugin), "--seed", "7", rules=QUICK)

    assert done.exit_code == 1
    assert re.search(r"^has-an-address +broken +[\d.]+ +client\.address is ''", done.stdout, re.MULTILINE)
    assert (
        "\nhas-an-address: A client says what it speaks, and where it sends to.\n  But client" in done.stdout
    )
    assert "\n  `protocol_name` and `address` stand in each log line" in done.stdout
    assert "\n  to repeat this: --rule has-an-address --seed 7\n" in done.stdout
    assert done.stdout.endswith("\n3 rules: 2 kept, 1 broken, 0 skipped\n")


def test_rules_that_do_not_apply() -> None:
    """Each is there with its reason: all rules of the suite are accounted for."""
    done = check("null:", "--json")

    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [rule["name"] for rule in told["rules"]] == list(RULES)
    assert sum(told["counts"].values()) == len(RULES)
    assert told["counts"]["skipped"] > told["counts"]["kept"] > 0
    skipped = {rule["name"]: rule["text"] for rule in told["rules"] if rule["result"] == "skipped"}
    assert skipped["reconnects"].startswith("null shows nobody what arrives: it has no listener")
    assert all(skipped.values())


@pytest.mark.parametrize("scheme", ["tcp+serve", "unix+serve", "ws+serve"])
def test_scheme_whose_consumers_connect(scheme: str) -> None:
    """They do, so that what arrives is asked; rules about one that is away are left out, and say why."""
    asked = "arrives-before-the-end", "two-clients-are-independent", "notices-the-end"
    report = json.loads(check(scheme, "--json", *(f"--rule={name}" for name in asked)).stdout)

    verdicts = {rule["name"]: (rule["result"], rule["text"]) for rule in report["rules"]}
    assert verdicts["arrives-before-the-end"] == ("kept", None)
    for name in asked[1:]:
        assert verdicts[name][0] == "skipped"
        assert "has consumers that come to it" in verdicts[name][1]


def test_rules_that_are_named() -> None:
    """They are asked in the order of the suite, and once."""
    done = check("null:", "--json", rules=("has-an-address", "closes-twice", "has-an-address"))

    told = json.loads(done.stdout)
    assert [rule["name"] for rule in told["rules"]] == ["closes-twice", "has-an-address"]
    assert told["counts"] == {"kept": 1, "broken": 0, "skipped": 1}


def test_verdicts_that_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict that got lost is an error, and no success."""

    class Loses(Done):
        def __init__(self, subject: Subject, *rest: Any) -> None:
            seed, rules, verdicts, *more = rest
            super().__init__(subject, seed, rules, verdicts[1:], *more)

    monkeypatch.setattr(certifying, "Done", Loses)
    done = check("tcp", rules=QUICK)

    assert done.exit_code == 1
    assert "internal error: 3 rules were asked, and the verdicts are {'kept': 2" in done.stderr
    assert done.stdout == ""


def test_json(plugin: Path) -> None:
    """The same for programs, with the traceback of what is broken."""
    with plugin.open("a") as file:
        file.write("ZooClient.connect = None\n")
    done = check(
        "zoo", "--plugin", str(plugin), "--json", "--seed", "7", rules=("closes-twice", "has-an-address")
    )

    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert told["plugin"]["module"] == str(plugin)
    assert told["guarantees"]["acks"] == ["written", "kernel"]
    assert (told["url"], told["seed"], told["ok"]) == ("zoo://127.0.0.1:0", 7, False)
    assert told["counts"] == {"kept": 1, "broken": 1, "skipped": 0}
    first = told["rules"][0]
    assert (first["name"], first["family"], first["result"]) == ("closes-twice", "lifecycle", "broken")
    assert "TypeError" in first["text"]
    assert first["details"].startswith("Traceback")
    assert first["seconds"] >= 0


def test_plugin_in_a_file_goes_through_the_daemon(plugin: Path) -> None:
    """The real daemon is given the file as well."""
    done = check("zoo", "--plugin", str(plugin), rules=("daemon-takes-and-forwards",))

    assert done.exit_code == 0, done.output


def test_command_as_a_process() -> None:
    """From the shell it is the same."""
    done = run_command("plugins", "check", "tcp", "--rule", "found-by-environment", "--json")
    told = json.loads(done.stdout)

    assert done.returncode == 0
    assert (told["ok"], told["counts"]["kept"]) == (True, 1)
    assert done.stderr == b""


def test_command_needs_no_pytest() -> None:
    """None of its modules imports it."""
    done = run_program(
        """
        import sys

        sys.modules["pytest"] = None
        from producer_pool.cli.group import cli

        cli(["plugins", "check", "tcp", "--rule", "closes-twice"])
        """
    )

    assert done.stdout.endswith("1 rules: 1 kept, 0 broken, 0 skipped\n")


def test_url_is_used_as_it_is(tmp_path: Path) -> None:
    """In a URL and in options, {tmp} is a folder that is new for each rule; certificates are options."""
    here = Authority(tmp_path).issue()
    given = {
        "--client-option": [f"tls-ca={tmp_path / 'ca.pem'}"],
        "--listener-option": [f"tls-cert={here.cert}", f"tls-key={here.key}"],
    }
    options = [word for name, values in given.items() for value in values for word in (name, value)]

    done = check("tcp+tls://localhost:0", *options, rules=("connects-again", "two-clients-are-independent"))

    assert done.exit_code == 0, done.output
    assert "tried at      tcp+tls://localhost:0\n" in done.stdout


@pytest.mark.parametrize(
    "arguments,code,text",
    [
        (["tpc"], 78, "no installed plugin handles tpc://"),
        (["tcp://"], 78, "tcp:// names no host"),
        (["127.0.0.1:9000"], 78, "did you mean tcp://127.0.0.1:9000?"),
        (["tcp+tls"], 78, "needs tls-cert and tls-key; --listener-option NAME=VALUE gives each listener an"),
        (["tcp", "--client-option", "colour=blue"], 78, "no option colour; known: "),
        (["tcp", "--plugin", "nowhere.py"], 78, "nowhere.py cannot be imported"),
        (["null"], 2, "null does not say where its ends can meet"),
        (["tcp", "--client-option", "colour"], 2, "colour is not of the form NAME=VALUE"),
        (["tcp", "--rule", "reconect"], 2, "no rule reconect; did you mean reconnects?"),
        ([], 2, "Missing argument 'SCHEME_OR_URL'"),
    ],
)
def test_what_cannot_be_tried(arguments: list[str], code: int, text: str) -> None:
    """Nothing is tried then, and the exit code says whose fault it is."""
    done = check(*arguments)

    assert done.exit_code == code
    assert text in done.stderr
    assert done.stdout == ""


def test_levels_that_are_none(plugin: Path) -> None:
    """A declaration that cannot be read is said to be one, as the daemon does."""
    plugin.write_text(SOURCE.replace("acks=TCP_ACKS", "acks='kernel'"))
    done = check("zoo", "--plugin", str(plugin))

    assert done.exit_code == 78
    assert "acks are levels such as (Ack.WRITTEN, Ack.KERNEL), not 'kernel'" in done.stderr
    assert done.stdout == ""


def test_password_is_not_shown() -> None:
    """Whatever becomes of a URL with a password."""
    done = check("tcp://user:hunter2@127.0.0.1:0")

    assert done.exit_code == 78
    assert "***@127.0.0.1:0" in done.stderr
    assert "hunter2" not in done.output


def test_first_broken_rule_is_the_last(plugin: Path) -> None:
    """With --fail-fast, the others are not asked, and the sum says how many."""
    with plugin.open("a") as file:
        file.write("ZooClient.address = property(lambda client: '', lambda client, address: None)\n")
    rules = ("closes-twice", "has-an-address", "refuses-odd-urls", "hooks-are-marked")
    done = check("zoo", "--plugin", str(plugin), "--fail-fast", rules=rules)
    told = json.loads(check("zoo", "--plugin", str(plugin), "--fail-fast", "--json", rules=rules).stdout)

    assert done.exit_code == 1
    assert done.stdout.endswith(
        "\n2 rules: 1 kept, 1 broken, 0 skipped; 2 more were not asked, because of --fail-fast\n"
    )
    assert [rule["name"] for rule in told["rules"]] == ["closes-twice", "has-an-address"]
    assert (told["counts"]["broken"], told["not_asked"]) == (1, 2)


DOZES = """
import time

async def doze(client):
    time.sleep(0.001)
    await StreamClient.connect(client)

ZooClient.connect = doze
"""


def test_client_that_blocks_the_loop(plugin: Path) -> None:
    """That is the first thing that is found out, before all that comes of it."""
    with plugin.open("a") as file:
        file.write(DOZES)
    done = check("zoo", "--plugin", str(plugin), "--fail-fast")

    assert done.exit_code == 1
    assert re.search(r"^never-blocks-the-loop +broken .* time\.sleep\(\) .* in doze\(", done.stdout, re.M)
    assert f"\n1 rules: 0 kept, 1 broken, 0 skipped; {len(RULES) - 1} more were not asked" in done.stdout


def test_failing_fast_where_nothing_fails() -> None:
    """All are asked."""
    done = check("null:", "--fail-fast", "--json", rules=("has-an-address", "closes-twice"))

    assert done.exit_code == 0
    assert json.loads(done.stdout)["not_asked"] == 0


def test_rules_that_wait_in_vain(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When three have, the others have less time for the same."""
    monkeypatch.setattr(certifying, "WaningPatience", partial(WaningPatience, patience=0.5))
    with plugin.open("a") as file:
        file.write("async def hang(client):\n    await asyncio.Event().wait()\n\nZooClient.connect = hang\n")
    rules = ("closes-twice", "connects-again", "keeps-boundaries", "takes-what-it-says")
    done = check("zoo", "--plugin", str(plugin), "--json", rules=rules)

    told = json.loads(done.stdout)["rules"]
    waited = [re.match(r"waited ([\d.]+) s in vain", rule["text"]) for rule in told]
    assert [found and found.group(1) for found in waited] == ["0.5", "0.5", "0.5", "0.05"]


# -- what one sees in the meantime -----------------------------------------------------------------


def screen_in(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False) -> StringIO:
    """Return what stands in the place of stderr until the test ends."""
    screen = StringIO()
    screen.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def verdict(rule: str, result: Ended) -> Verdict:
    return Verdict(RULES[rule], result)


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says where it is, how many are broken, and the first of them; it is gone in the end."""
    screen = screen_in(monkeypatch, terminal=True)
    progress = Progress(2, every=0)
    progress.next("closes-twice")
    progress.ended(verdict("closes-twice", Ended.BROKEN), 20.0)
    progress.next("reconnects")
    progress.finish()

    assert screen.getvalue() == (
        "\r\x1b[K[1/2] closes-twice\r\x1b[K[2/2] reconnects, 1 broken (closes-twice)\r\x1b[K"
    )


def test_progress_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each rule that took long to be broken, and now and then one that says how far it is."""
    screen = screen_in(monkeypatch)
    progress = Progress(3, every=0)
    progress.next("closes-twice")
    progress.ended(verdict("closes-twice", Ended.BROKEN), 20.04)
    progress.next("reconnects")
    progress.ended(verdict("reconnects", Ended.KEPT), 0.5)
    progress.finish()

    assert screen.getvalue().splitlines() == [
        "[1/3] closes-twice; 0 broken so far",
        "[1/3] closes-twice: broken, after 20.0 s",
        "[2/3] reconnects; 1 broken (closes-twice) so far",
    ]


def test_progress_past_several_that_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is named: the others may be so because of it."""
    screen = screen_in(monkeypatch)
    progress = Progress(3, every=0)
    for name in ("never-blocks-the-loop", "closes-twice"):
        progress.ended(verdict(name, Ended.BROKEN), 0.1)
    progress.next("reconnects")

    assert screen.getvalue() == "[1/3] reconnects; 2 broken (never-blocks-the-loop, ...) so far\n"


def test_progress_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not take long says nothing before its report."""
    screen = screen_in(monkeypatch)
    progress = Progress(2)
    progress.next("closes-twice")
    progress.ended(verdict("closes-twice", Ended.BROKEN), 0.1)
    progress.next("reconnects")
    progress.ended(verdict("reconnects", Ended.SKIPPED), 0.1)
    progress.finish()

    assert screen.getvalue() == ""

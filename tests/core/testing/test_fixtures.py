"""The fixture for pytest, used as a stranger would: in a folder of its own, by a pytest of its own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.tree import CORE

OPTS_IN = 'pytest_plugins = ["producer_pool.testing.fixtures"]\n'

TESTS = """
import pytest

from producer_pool import ConnectError, DeliveryPolicy
from producer_pool.testing import Die, FlakyClient, HalfOpen, Slow

pools = []


def test_delivers(producer_pool):
    pools.append(producer_pool)
    client = FlakyClient()
    producer_pool.add_producer("audit", client)

    assert producer_pool.forward_to_all("hello").ok
    assert client.messages == (b"hello",)


def test_failed_messages(producer_pool):
    pools.append(producer_pool)
    producer_pool.add_producer("audit", FlakyClient([Die()]))

    assert isinstance(producer_pool.forward_to("audit", "hello").error, ConnectError)


def test_unfinished_messages_that_settle(producer_pool):
    pools.append(producer_pool)
    producer_pool.add_producer("audit", FlakyClient([Slow(0.1)]))
    producer_pool.submit("hello")


def test_forgets_messages(producer_pool):
    pools.append(producer_pool)
    producer_pool.add_producer("fine", FlakyClient())
    producer_pool.add_producer("audit", FlakyClient([HalfOpen()]), policy=DeliveryPolicy.relay())
    producer_pool.submit("hello")


def test_closes_the_pool(producer_pool):
    pools.append(producer_pool)
    producer_pool.add_producer("audit", FlakyClient([HalfOpen()]), policy=DeliveryPolicy.relay())
    producer_pool.submit("hello")
    producer_pool.close(drain=0)


def test_nothing(producer_pool):
    pools.append(producer_pool)


def test_each_had_its_own():
    assert len(set(map(id, pools))) == 6
    assert all(pool.closed for pool in pools)
"""


def run(folder: Path, tests: str, conftest: str = "") -> dict[str, str]:
    """Run *tests* in *folder*, and return what is wrong with each: nothing, or a text."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_of_a_stranger.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--junitxml=report.xml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    found = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        found[case.attrib["name"]] = "".join(f"{fault.attrib['message']}\n{fault.text}" for fault in case)
    return found


def test_fixture(tmp_path: Path) -> None:
    """Each test has a pool, which is closed; one that does not know what became of a message fails."""
    found = run(tmp_path, TESTS, OPTS_IN)
    forgets = found.pop("test_forgets_messages")

    assert found == dict.fromkeys(
        [
            "test_delivers",
            "test_failed_messages",
            "test_unfinished_messages_that_settle",
            "test_closes_the_pool",
            "test_nothing",
            "test_each_had_its_own",
        ],
        "",
    )
    assert "messages without an outcome when the test ended: audit: 1; wait for" in forgets


def test_nobody_gets_it_who_did_not_ask(tmp_path: Path) -> None:
    """The package installs no plugin for pytest: without asking there is no such fixture."""
    found = run(tmp_path, "def test_asks(producer_pool): ...\n")
    project = tomllib.loads((CORE / "pyproject.toml").read_text())["project"]

    assert "fixture 'producer_pool' not found" in found["test_asks"]
    assert "pytest11" not in project["entry-points"]


def without_pytest(code: str) -> subprocess.CompletedProcess[str]:
    """Run *code* where there is no pytest."""
    hidden = f"import sys; sys.modules['pytest'] = None\n{code}"
    return subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)


def test_without_pytest() -> None:
    """What needs it says how to get it; all else works."""
    needs = without_pytest("from producer_pool.testing import TransportConformance")
    does_not = without_pytest(ALL_BUT_THE_SUITE)

    assert needs.returncode == 1
    assert needs.stderr.strip().endswith(
        "ModuleNotFoundError: producer_pool.testing.TransportConformance needs pytest; "
        'try: pip install "producer-pool[testing]"'
    )
    assert does_not.stderr == ""


ALL_BUT_THE_SUITE = """
import producer_pool.testing as testing
for name in testing.__all__:
    if name != "TransportConformance":
        getattr(testing, name)
"""


@pytest.mark.parametrize("name", ["no_such_name", "pytest"])
def test_other_names(name: str) -> None:
    """They are missing with and without pytest, and nothing is said of it."""
    told = without_pytest(f"from producer_pool.testing import {name}").stderr

    assert f"ImportError: cannot import name {name!r}" in told
    assert "pip install" not in told

"""Wiring plugins: loaded once, in order, each contained."""

import logging
import traceback
from typing import Any

import pytest

from producer_pool.contract.wiring import Wiring
from producer_pool.discovery.registry import Registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import PluginLoadError
from support.distributions import Site, transports_module

HOOKS = """
from producer_pool.plugin import hookimpl

called = []

class Watcher:
    def state_changed(self, health): ...
    def settled(self, producer_id, outcome, count): ...

@hookimpl
def producer_pool_stage(producer_id):
    return (lambda batch: batch.select([0])) if producer_id == "audit" else None

@hookimpl
def producer_pool_observer():
    return Watcher()

@hookimpl
def producer_pool_started(pool):
    called.append(("started", pool))

@hookimpl
def producer_pool_stopping(deadline, pool):
    called.append(("stopping", pool, deadline))

@hookimpl
def producer_pool_commands(cli):
    cli.append(__name__)
"""

FAILING = """
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_stage(): 1/0

@hookimpl
def producer_pool_observer(): 1/0

@hookimpl
def producer_pool_started(): 1/0

@hookimpl
def producer_pool_stopping(): 1/0

@hookimpl
def producer_pool_commands(): 1/0
"""


def registry() -> Registry:
    return Registry(PluginSelection())


def called(name: str) -> list[Any]:
    return list(__import__(name).called)


def test_no_wiring_plugin(site: Site) -> None:
    """Then there is nothing to add."""
    wiring = registry().wiring()

    assert list(wiring.stages("audit", None)) == []
    assert list(wiring.observers(object())) == []
    assert isinstance(wiring, Wiring)


def test_plugin_with_every_hook(site: Site) -> None:
    """Each is called with what it asks for, and what it returns is what the pool gets."""
    site.install("acme-wiring", plugins={"x": "acme_wiring"}, modules={"acme_wiring": HOOKS})
    wiring = registry().wiring()
    cli: list[str] = []
    (stage,) = wiring.stages("audit", None)
    (observer,) = wiring.observers("pool")
    wiring.started("pool")
    wiring.stopping("pool", 5.0)
    wiring.commands(cli)

    assert stage(Batch.of([b"one", b"two"])).messages == [b"one"]  # type: ignore[union-attr]
    assert type(observer).__name__ == "Watcher"
    assert list(wiring.stages("other", None)) == []
    assert called("acme_wiring") == [("started", "pool"), ("stopping", "pool", 5.0)]
    assert cli == ["acme_wiring"]


def test_several_plugins(site: Site) -> None:
    """They are called in the order of their distributions, those marked first or last aside."""
    command = (
        "from producer_pool.plugin import hookimpl\n"
        "@hookimpl{}\ndef producer_pool_commands(cli): cli.append({!r})"
    )
    for name, marker in {"b": "", "c": "(tryfirst=True)", "a": "", "d": "(trylast=True)", "e": ""}.items():
        site.install(
            f"w-{name}", plugins={"x": f"w_{name}"}, modules={f"w_{name}": command.format(marker, name)}
        )
    cli: list[str] = []
    registry().wiring().commands(cli)

    assert cli == ["c", "a", "b", "e", "d"]


def test_plugin_whose_hooks_fail(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is logged with the plugin's name; the other plugin is not disturbed."""
    site.install("a-failing", plugins={"x": "a_failing"}, modules={"a_failing": FAILING})
    site.install("acme-wiring", plugins={"x": "acme_wiring"}, modules={"acme_wiring": HOOKS})
    wiring = registry().wiring()
    wiring.started("pool")
    wiring.stopping("pool", 1.0)
    wiring.commands([])

    assert len(wiring.stages("audit", None)) == 1
    assert len(wiring.observers("pool")) == 1
    assert [one[0] for one in called("acme_wiring")] == ["started", "stopping"]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 5
    assert all(message.startswith("plugin a-failing:a_failing: producer_pool_") for message in messages)


def test_answers_of_the_wrong_kind(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """They are left out, and the log says what was wanted."""
    source = FAILING.replace("1/0", "return 42")
    site.install("a-failing", plugins={"x": "a_failing"}, modules={"a_failing": source})
    wiring = registry().wiring()

    assert list(wiring.stages("audit", None)) == []
    assert list(wiring.observers("pool")) == []
    assert "plugin a-failing:a_failing: a stage is a callable, not a int" in caplog.text
    assert "an observer has state_changed() and settled(), not a int" in caplog.text


def test_plugin_that_cannot_be_loaded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once and remembered; the others work."""
    site.install("a-broken", plugins={"x": "a_broken"}, modules={"a_broken": "import not_there"})
    site.install(
        "a-wrong", plugins={"x": "a_wrong"}, modules={"a_wrong": HOOKS.replace("_started", "_begun")}
    )
    site.install("acme-wiring", plugins={"x": "acme_wiring"}, modules={"acme_wiring": HOOKS})
    plugins = registry()

    assert len(plugins.wiring().stages("audit", None)) == 1
    assert len(plugins.wiring().stages("audit", None)) == 1
    assert [type(problem) for problem in plugins.problems] == [PluginLoadError, PluginLoadError]
    assert {problem.distribution for problem in plugins.problems} == {"a-broken", "a-wrong"}  # type: ignore[attr-defined]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "a-broken 1.0 is installed but cannot be imported: No module named 'not_there'" in caplog.text


def test_plugin_that_is_denied(site: Site) -> None:
    """It is not imported."""
    site.install("acme-wiring", plugins={"x": "acme_wiring"}, modules={"acme_wiring": "1/0"})
    plugins = Registry(PluginSelection.of(deny=["acme-wiring"]))

    assert list(plugins.wiring().stages("audit", None)) == []
    assert plugins.problems == ()


# -- plugins without which nothing goes ------------------------------------------------------------


def requiring(*names: str, **more: Any) -> Registry:
    return Registry(PluginSelection.of(required=names, **more))


def test_plugin_that_is_required(site: Site) -> None:
    """It is there, and nothing else happens."""
    site.install("acme-wiring", plugins={"x": "acme_wiring"}, modules={"acme_wiring": HOOKS})
    plugins = requiring("Acme_Wiring", "acme-wiring")
    plugins.check_required()

    assert len(plugins.wiring().stages("audit", None)) == 1


@pytest.mark.parametrize(
    "source,more,fault",
    [
        (
            "import not_there",
            {},
            "a-filter 1.0 is installed but cannot be imported: No module named 'not_there'",
        ),
        (
            HOOKS.replace("_started", "_begun"),
            {},
            "a-filter 1.0 implements producer_pool_begun, which is no hook",
        ),
        (HOOKS, {"deny": ["a-filter"]}, r"a-filter: it is disabled \(PRODUCER_POOL_DISABLE_PLUGINS\)"),
        (HOOKS, {"allow": ["other"]}, r"a-filter: it is not among those allowed \(PRODUCER_POOL_PLUGINS\)"),
        (None, {}, "a-filter: it is not installed"),
    ],
    ids=["import", "hook", "denied", "not allowed", "not there"],
)
def test_required_plugin_that_cannot_be_used(
    site: Site, source: str | None, more: dict[str, Any], fault: str
) -> None:
    """No producer can be added, each time it is tried: its messages would go out without what is missing."""
    if source is not None:
        site.install("a-filter", plugins={"x": "a_filter"}, modules={"a_filter": source})
    site.install("b-other", plugins={"x": "b_other"}, modules={"b_other": HOOKS})
    plugins = requiring("a-filter", **more)
    wiring = plugins.wiring()

    wrong = fault + r".*; it is required \(PRODUCER_POOL_REQUIRE_PLUGINS\)"
    for check in (plugins.check_required, lambda: wiring.stages("audit", None)) * 2:
        with pytest.raises(PluginLoadError, match=wrong) as caught:
            check()
        assert caught.value.distribution == "a-filter"


@pytest.mark.parametrize(
    "body,fault",
    [
        ('raise ValueError("hunter2")', r"producer_pool_stage\(\) failed: ValueError: \*\*\*"),
        ("return 42", "a stage is a callable, not a int"),
    ],
)
def test_required_stage_that_cannot_be_had(
    site: Site, body: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same; the secrets of the URL are not shown. Of another plugin, it is logged, and left out."""
    source = f"from producer_pool.plugin import hookimpl\n@hookimpl\ndef producer_pool_stage(): {body}\n"
    site.install("a-filter", plugins={"x": "a_filter"}, modules={"a_filter": source})
    endpoint = Endpoint.parse("tcp://user:hunter2@h:1")

    with pytest.raises(
        PluginLoadError, match=f"plugin a-filter:a_filter: {fault}.*; it is required"
    ) as caught:
        requiring("a-filter").wiring().stages("audit", endpoint)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert "going on without it" not in caplog.text
    assert list(registry().wiring().stages("audit", endpoint)) == []


WRAPPER = """
from producer_pool.plugin import hookimpl

@hookimpl(wrapper=True)
def producer_pool_make_client(transport, endpoint, options):
    client = yield
    client.address = f"wrapped {client.address}"
    return client
"""


@pytest.fixture
def fifo(site: Site) -> Site:
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    return site


def test_plugin_that_wraps_clients(fifo: Site) -> None:
    """It gets what the owner of the scheme made, and what it returns is used."""
    fifo.install("acme-wrap", plugins={"x": "acme_wrap"}, modules={"acme_wrap": WRAPPER})

    assert registry().make_client(Endpoint.parse("fifo://h"), None).address == "wrapped fifo://h"


def test_plugin_that_fails_in_wrapping(fifo: Site) -> None:
    """It is named, and not the owner of the scheme."""
    source = WRAPPER.replace("client = yield", "client = yield; 1/0")
    fifo.install("acme-wrap", plugins={"x": "acme_wrap"}, modules={"acme_wrap": source})

    with pytest.raises(
        PluginLoadError, match=r"acme-wrap 1.0 fails in producer_pool_make_client\(\) for fifo://h: Zero"
    ):
        registry().make_client(Endpoint.parse("fifo://h"), None)


def test_owner_that_fails_under_a_wrapper(fifo: Site) -> None:
    """The owner is named, though the failure passed through the wrapper."""
    (fifo.folder / "acme_fifo.py").write_text(
        transports_module("fifo").replace("self.address", "1/0; self.address")
    )
    fifo.install("acme-wrap", plugins={"x": "acme_wrap"}, modules={"acme_wrap": WRAPPER})

    with pytest.raises(PluginLoadError, match=r"acme-fifo 1.0 fails in .*ZeroDivisionError"):
        registry().make_client(Endpoint.parse("fifo://h"), None)


def test_one_module_for_both_groups(site: Site) -> None:
    """It is registered once, and does both."""
    source = transports_module("fifo", more="@hookimpl\ndef producer_pool_commands(cli): cli.append(1)")
    site.install(
        "acme-fifo",
        transports={"fifo": "acme_fifo"},
        plugins={"x": "acme_fifo"},
        modules={"acme_fifo": source},
    )
    plugins = registry()
    cli: list[int] = []
    plugins.transport("fifo")
    plugins.wiring().commands(cli)

    assert cli == [1]
    assert plugins.problems == ()


def test_registered_object_with_wiring(site: Site) -> None:
    """What the program registers wires as an installed plugin does."""
    (site.folder / "own_wiring.py").write_text(HOOKS)
    plugins = registry()
    plugins.register(__import__("own_wiring"), "mine")

    assert len(plugins.wiring().stages("audit", None)) == 1
    assert plugins.wiring().stages("other", None) == []

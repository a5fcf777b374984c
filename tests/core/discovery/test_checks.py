"""Plugins that are installed and cannot be used: each fault has its own error."""

import shutil

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.errors import PluginLoadError
from support.distributions import Site, transports_module

WRONG = {
    "missing module": (
        "import not_there",
        "is installed but cannot be imported: No module named 'not_there'",
    ),
    "fails when imported": ("1/0", r"cannot be imported: ZeroDivisionError: .* \(.*acme_bad.py, line 1\)"),
    "exits when imported": ("import sys; sys.exit('no')", "cannot be imported: SystemExit: no"),
    "does not parse": ("def", "cannot be imported: SyntaxError"),
    "misspelt hook": (
        transports_module("bad", more="@hookimpl\ndef producer_pool_stages(producer_id): ..."),
        r"implements producer_pool_stages, which is no hook; did you mean producer_pool_stage\?",
    ),
    "parameter with a default": (
        transports_module("bad", more="@hookimpl\ndef producer_pool_stage(producer_id, endpoint=None): ..."),
        r"gives a default to endpoint in producer_pool_stage\(\); .* leave the default out",
    ),
    "parameter that the hook does not have": (
        transports_module("bad", more="@hookimpl\ndef producer_pool_stage(producer): ..."),
        r"cannot be registered: PluginValidationError: .*producer_pool_stage.*'producer'",
    ),
    "wraps what cannot be wrapped": (
        transports_module("bad", more="@hookimpl(wrapper=True)\ndef producer_pool_stage(): return (yield)"),
        r"wraps producer_pool_stage\(\); only producer_pool_make_client and producer_pool_make_listener",
    ),
    "hook that is not marked": (
        transports_module("bad").replace("@hookimpl", ""),
        "has an entry point for bad, but acme_bad offers no transport; .* needs @hookimpl",
    ),
    "scheme that is not offered": (
        transports_module("worse"),
        r'offers worse, which are no entry points of it; .*\.transports"\]: "worse" = "acme_bad"',
    ),
    "another scheme than the entry point": (
        transports_module("other"),
        "has an entry point for bad, but acme_bad offers other",
    ),
    "scheme offered twice": (transports_module("bad", "bad"), "has the scheme bad, which it offers twice"),
    "scheme offered by two transports": (
        transports_module("bad") + "    yield Transport(schemes=['bad'], client=FakeClient)",
        "has the scheme bad, which it offers twice",
    ),
    "no scheme": (transports_module(), "has no scheme"),
    "no ends": (
        transports_module("bad").replace("client=FakeClient", "client=None"),
        "has neither a client nor a listener",
    ),
    "no level": (transports_module("bad").replace("FakeClient)", "FakeClient, acks=())"), "reaches no level"),
    "levels that are none": (
        transports_module("bad").replace("FakeClient)", "FakeClient, acks='kernel')"),
        r"TypeError: acks are levels such as \(Ack.WRITTEN, Ack.KERNEL\), not 'kernel'",
    ),
    "consumer that cannot be made": (
        transports_module("bad").replace("FakeClient)", "FakeClient, trial_consumer='bad')"),
        "has 'bad' for trial_consumer, which cannot be called with a Trial",
    ),
    "newer contract": (
        transports_module("bad").replace("FakeClient)", "FakeClient, api=2)"),
        "speaks version 2 of the plugin contract, and .* version 1; upgrade this producer-pool",
    ),
    "older contract": (
        transports_module("bad").replace("FakeClient)", "FakeClient, api=0)"),
        "speaks version 0 of the plugin contract, and .* version 1; upgrade acme-bad",
    ),
    "not a transport": (
        transports_module("bad").replace("yield Transport", "yield dict"),
        r"offers a dict as a transport; offer Transport\(",
    ),
    "options that are no dataclass": (
        transports_module("bad").replace("FakeClient)", "FakeClient, options=dict)"),
        "for options, which is no dataclass",
    ),
    "options of an unknown type": (
        "import dataclasses\n@dataclasses.dataclass\nclass Options:\n    x: complex = 0\n"
        + transports_module("bad").replace("FakeClient)", "FakeClient, options=Options)"),
        "has options that cannot be read from a URL: .*complex",
    ),
    "hook that fails": (
        transports_module("bad").replace("yield Transport", "1/0; yield Transport"),
        r"fails in producer_pool_transports\(\): ZeroDivisionError",
    ),
    "hook that returns no list": (
        transports_module("bad").replace("yield Transport", "return Transport"),
        r"fails in producer_pool_transports\(\): TypeError",
    ),
}


@pytest.mark.parametrize("source, message", WRONG.values(), ids=WRONG)
def test_plugin_that_is_wrong(site: Site, source: str, message: str) -> None:
    """The error names distribution, version and fault, and nothing of the plugin stays registered."""
    transports = {"bad": "acme_bad"} | ({"other": "acme_bad"} if "offers other" in message else {})
    site.install("acme-bad", "0.1", transports=transports, modules={"acme_bad": source})
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    plugins = Registry(PluginSelection())

    with pytest.raises(PluginLoadError, match=message) as caught:
        plugins.transport("bad")

    assert str(caught.value).startswith("acme-bad 0.1 ")
    assert caught.value.distribution == "acme-bad"
    assert not any("acme" in one.plugin for one in plugins.implementations("producer_pool_stage"))
    assert not any("acme" in one.plugin for one in plugins.implementations("producer_pool_transports"))
    assert "fifo" in plugins.transport("fifo").schemes, "one broken plugin never disturbs another"


def test_hook_of_a_newer_core(site: Site) -> None:
    """One that is marked as optional is passed over where it is not known."""
    source = transports_module(
        "fifo", more="@hookimpl(optionalhook=True)\ndef producer_pool_newer(pool): ..."
    )
    site.install("acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": source})

    assert "fifo" in Registry(PluginSelection()).transport("fifo").schemes


def test_plugin_that_was_wrong_and_is_repaired(site: Site) -> None:
    """The next one who asks for it gets it."""
    site.install("acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": "import not_there"})
    plugins = Registry(PluginSelection())
    with pytest.raises(PluginLoadError):
        plugins.transport("fifo")
    (site.folder / "acme_fifo.py").unlink()
    shutil.rmtree(site.folder / "__pycache__", ignore_errors=True)
    (site.folder / "acme_fifo.py").write_text(transports_module("fifo"))

    assert "fifo" in plugins.transport("fifo").schemes


def test_second_scheme_of_a_good_plugin_is_wrong(site: Site) -> None:
    """The first one, loaded before, stays as it is."""
    site.install(
        "acme-fifo",
        transports={"fifo": "acme_fifo", "fast": "acme_fifo"},
        modules={"acme_fifo": transports_module("fifo")},
    )
    plugins = Registry(PluginSelection())
    before = plugins.transport("fifo")
    with pytest.raises(PluginLoadError):
        plugins.transport("fast")

    assert plugins.transport("fifo") is before
    assert any("acme" in one.plugin for one in plugins.implementations("producer_pool_transports"))

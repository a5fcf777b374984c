"""Hooks: each docstring holds a whole plugin that runs, and the documented hooks are the real ones."""

import inspect
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pluggy
import pytest

from producer_pool.contract import hookspecs
from producer_pool.contract.transport import Transport
from producer_pool.contract.wiring import Wiring
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import Health, State

HOOKS: dict[str, Callable[..., Any]] = {
    name: function for name, function in vars(hookspecs).items() if name.startswith("producer_pool_")
}
CORE = {
    "producer_pool_make_client": lambda transport, endpoint, options: transport.client(endpoint, options),
    "producer_pool_make_listener": lambda transport, endpoint, options: transport.listener(endpoint, options),
}


def plugin_of(name: str) -> ModuleType:
    """Run the code in the docstring of a hook, as the module that its reader would write."""
    docstring = inspect.getdoc(HOOKS[name])
    assert docstring is not None
    _, _, code = docstring.partition("::\n\n")
    module = ModuleType(f"plugin_for_{name}")
    exec(textwrap.dedent(code), vars(module))
    return module


@pytest.fixture
def manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def test_hooks_are_exported() -> None:
    """What is marked as a hook is in __all__, and the other way round."""
    marked = {name for name, function in HOOKS.items() if hasattr(function, f"{hookspecs.PROJECT}_spec")}

    assert marked == set(HOOKS)
    assert set(hookspecs.__all__) == {"PROJECT", "hookimpl", "hookspec", *HOOKS}


@pytest.mark.parametrize("name", HOOKS)
def test_docstring_says_when_and_shows_how(name: str) -> None:
    """It opens with what a plugin does by it, and holds a plugin that imports public names only."""
    docstring = inspect.getdoc(HOOKS[name]) or ""
    imports = re.findall(r"^ +(?:from|import) (producer_pool\S*)", docstring, re.MULTILINE)

    assert set(imports) == {"producer_pool.plugin"}
    assert f"def {name}(" in docstring


@pytest.mark.parametrize("name", HOOKS)
def test_plugin_in_the_docstring_registers(name: str, manager: pluggy.PluginManager) -> None:
    """It implements just that hook, and asks for no parameter that the hook does not have."""
    plugin = plugin_of(name)
    manager.register(plugin)
    manager.check_pending()

    assert [caller.name for caller in manager.get_hookcallers(plugin) or ()] == [name]


@pytest.mark.parametrize("name", HOOKS)
def test_parameters_have_no_defaults(name: str) -> None:
    """A hook is never called without one of them."""
    parameters = inspect.signature(HOOKS[name]).parameters.values()

    assert all(parameter.default is parameter.empty for parameter in parameters)


# -- what the plugins do ---------------------------------------------------------------------------


def transport_of_fifo() -> Transport:
    (transport,) = plugin_of("producer_pool_transports").producer_pool_transports()
    assert isinstance(transport, Transport)
    assert transport.schemes == ("fifo",)
    return transport


async def test_fifo_plugin_sends(tmp_path: Path) -> None:
    """The whole plugin of the docstring works on a real pipe, and says what went wrong."""
    path = tmp_path / "pipe"
    transport = transport_of_fifo()
    assert transport.client is not None
    client = transport.client(Endpoint.parse(f"fifo:{path}"), None)
    with pytest.raises(ConnectError, match=f"fifo:{path}: No such file"):
        await client.connect()
    os.mkfifo(path)
    with pytest.raises(ConnectError, match="No such device"):
        await client.connect()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with client:
            await client.send(b"one")
            await client.send_batch(Batch.of(["two", "three"]))
            with pytest.raises(Rejected):
                await client.send(b"fo\nur")
            received = os.read(reader, 100)
            with pytest.raises(SendError, match="temporarily unavailable"):
                await client.send_batch(Batch.of([b"x" * 4095] * 100))
    finally:
        os.close(reader)
    await client.aclose()

    assert received == b"one\ntwo\nthree\n"


async def test_wrappers_of_factories(
    manager: pluggy.PluginManager, capsys: pytest.CaptureFixture[str]
) -> None:
    """They see what core makes, and hand it on."""
    made: Any = {"client": lambda _, options: f"client {options}", "listener": lambda *_: "ear"}
    transport = Transport(schemes=("x",), **made)
    endpoint = Endpoint.parse("x://h:1?token=secret")
    core = ModuleType("core")
    for name, function in CORE.items():
        setattr(core, name, hookspecs.hookimpl(trylast=True)(function))
        manager.register(plugin_of(name))
    manager.register(core)
    arguments = {"transport": transport, "endpoint": endpoint, "options": 5}

    assert manager.hook.producer_pool_make_client(**arguments) == "client 5"
    assert manager.hook.producer_pool_make_listener(**arguments) == "ear"
    assert capsys.readouterr().out == (
        "made client 5 for x://h:1?token=***\nlistening at x://h:1?token=***\n"
    )


def test_stage(manager: pluggy.PluginManager) -> None:
    """The stage of the docstring stands before one producer only, and leaves messages out."""
    manager.register(plugin_of("producer_pool_stage"))
    (stage,) = manager.hook.producer_pool_stage(producer_id="pager", endpoint=None)
    left = stage(Batch.of(["DEBUG x", "fire", "DEBUG y"]))

    assert manager.hook.producer_pool_stage(producer_id="audit", endpoint=None) == []
    assert (left.messages, left.kept) == ([b"fire"], (1,))


def test_observer_and_the_rest(manager: pluggy.PluginManager, capsys: pytest.CaptureFixture[str]) -> None:
    """They are told what the hook says."""

    class Pool:
        producers = ("audit",)

    for name in ("producer_pool_observer", "producer_pool_started", "producer_pool_stopping"):
        manager.register(plugin_of(name))
    (observer,) = manager.hook.producer_pool_observer(pool=Pool())
    observer.state_changed(Health("audit", State.DOWN, 0.0))
    observer.settled("audit", Outcome.DROPPED, 3)
    manager.hook.producer_pool_started(pool=Pool())
    manager.hook.producer_pool_stopping(pool=Pool(), deadline=10)

    assert capsys.readouterr().out.splitlines() == [
        "audit down",
        "audit dropped 3",
        "started with ('audit',)",
        "stopping within 10 seconds",
    ]


def test_command(manager: pluggy.PluginManager) -> None:
    """It is there beside core's own."""
    group = click.Group()
    manager.register(plugin_of("producer_pool_commands"))
    manager.hook.producer_pool_commands(cli=group)

    assert list(group.commands) == ["hello"]


# -- without plugins -------------------------------------------------------------------------------


def test_no_wiring() -> None:
    """A pool with injected clients needs no plugin system: its wiring adds nothing."""
    wiring = Wiring()
    wiring.started(None)
    wiring.stopping(None, 1.0)

    assert list(wiring.stages("audit", None)) == []
    assert list(wiring.observers(None)) == []

"""
The hooks: how plugins and core are wired together. None is called for a message.

Each docstring says when the hook is called and holds a whole plugin.
"""
# Rule: hooks only grow. A parameter may be added (pluggy passes a plugin what it names); none is removed.

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from producer_pool.contract.ports import Client, Listener, Observer, Stage
    from producer_pool.contract.transport import Transport
    from producer_pool.model.endpoint import Endpoint

__all__ = [
    "PROJECT",
    "hookimpl",
    "hookspec",
    "producer_pool_commands",
    "producer_pool_make_client",
    "producer_pool_make_listener",
    "producer_pool_observer",
    "producer_pool_stage",
    "producer_pool_started",
    "producer_pool_stopping",
    "producer_pool_transports",
]

PROJECT = "producer_pool"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""


@hookspec
def producer_pool_transports() -> Iterable[Transport]:  # type: ignore[empty-body]
    r"""
    Offer transports. Called when a scheme is first asked for, on the plugin that owns it only.

    A whole plugin, registered by the entry point ``fifo = my_fifo`` in ``producer_pool.transports``::

        import os
        from producer_pool.plugin import Client, ConnectError, Rejected, SendError, Transport, hookimpl

        class FifoClient(Client):
            protocol_name = "fifo"
            max_message = 4095  # With its newline, the kernel takes it whole or not at all: pipe(7).

            def __init__(self, endpoint, options):
                self.address, self._path, self._pipe = str(endpoint), endpoint.path, None

            async def connect(self):
                try:
                    self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
                except OSError as error:
                    raise ConnectError(f"{self.address}: {error.strerror}") from error

            async def send(self, message):
                if b"\n" in message:
                    raise Rejected(f"{self.address}: a newline would make two messages of one")
                try:
                    os.write(self._pipe, message + b"\n")
                except OSError as error:
                    raise SendError(f"{self.address}: {error.strerror}") from error

            async def aclose(self):
                if self._pipe is not None:
                    os.close(self._pipe)
                    self._pipe = None

        @hookimpl
        def producer_pool_transports():
            yield Transport(schemes=("fifo",), client=FifoClient)
    """


@hookspec(firstresult=True)
def producer_pool_make_client(transport: Transport, endpoint: Endpoint, options: Any) -> Client | None:
    """
    Make the client of one URL. Called once for each producer that is made from a URL.

    Core answers last, with ``transport.client(endpoint, options)``. A wrapper may decorate that, here
    from a wiring plugin (an entry point in ``producer_pool.plugins``)::

        from producer_pool.plugin import hookimpl

        @hookimpl(wrapper=True)
        def producer_pool_make_client(endpoint):
            client = yield
            print("made", client, "for", endpoint)
            return client
    """


@hookspec(firstresult=True)
def producer_pool_make_listener(transport: Transport, endpoint: Endpoint, options: Any) -> Listener | None:
    """
    Make the listener of one URL. Called once for each listener.

    Core answers last, with ``transport.listener(endpoint, options)``::

        from producer_pool.plugin import hookimpl

        @hookimpl(wrapper=True)
        def producer_pool_make_listener(endpoint):
            listener = yield
            print("listening at", endpoint)
            return listener
    """


@hookspec
def producer_pool_stage(producer_id: str, endpoint: Endpoint | None) -> Stage | None:
    """
    Put a stage before a producer. Called once when the producer is added; None: no stage.

    The stage is then called with each batch. What it leaves out is DROPPED, with Filtered as its error::

        from producer_pool.plugin import hookimpl

        def without_debug(batch):
            return batch.select([i for i, message in enumerate(batch.messages) if b"DEBUG" not in message])

        @hookimpl
        def producer_pool_stage(producer_id):
            return without_debug if producer_id == "pager" else None
    """


@hookspec
def producer_pool_observer(pool: Any) -> Observer | None:
    """
    Watch a pool. Called once when it starts; None: nothing to watch.

    Its exceptions are logged and counted, and stop nothing::

        from producer_pool.plugin import hookimpl

        class Printer:
            def state_changed(self, health):
                print(health.producer_id, health.state.value)

            def settled(self, producer_id, outcome, count):
                print(producer_id, outcome.value, count)

        @hookimpl
        def producer_pool_observer(pool):
            return Printer()
    """


@hookspec
def producer_pool_started(pool: Any) -> None:
    """
    Be told that a pool runs::

        from producer_pool.plugin import hookimpl

        @hookimpl
        def producer_pool_started(pool):
            print("started with", pool.producers)
    """


@hookspec
def producer_pool_stopping(pool: Any, deadline: float) -> None:
    """
    Be told that a pool stops; what is queued has *deadline* seconds::

        from producer_pool.plugin import hookimpl

        @hookimpl
        def producer_pool_stopping(pool, deadline):
            print("stopping within", deadline, "seconds")
    """


@hookspec
def producer_pool_commands(cli: Any) -> None:
    """
    Add commands to the command line. Called when ``producer-pool`` starts, with its click group::

        import click
        from producer_pool.plugin import hookimpl

        @hookimpl
        def producer_pool_commands(cli):
            @cli.command()
            def hello():
                click.echo("hello")
    """

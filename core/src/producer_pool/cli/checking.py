"""What `check` does: resolve each URL to what would serve it, look at folders, and perhaps connect."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from producer_pool.cli.output import print_json, print_table
from producer_pool.dead_letter_office import plan_for_letters
from producer_pool.model.endpoint import Endpoint, is_url, redact
from producer_pool.model.errors import ConfigurationError, DeliveryError, PluginError, StorageError
from producer_pool.model.policies import Role, Spool
from producer_pool.model.text import format_duration
from producer_pool.storage.looking import look_at_letters, look_at_spool

if TYPE_CHECKING:
    from producer_pool.cli.configuration import Problems
    from producer_pool.contract.ports import Client
    from producer_pool.discovery.config import Settings
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["Checked", "Row", "connected", "show"]


@dataclass
class Row:
    """What one URL, or one folder, comes to."""

    kind: str
    id: str
    url: str
    origin: str
    plugin: str = ""
    ack: str = ""
    role: str = ""
    """Of a consumer."""
    state: str = "ok"
    """``ok``, ``error``, ``connected``, ``unreachable``, or ``not tried``."""
    detail: str = ""
    client: Client | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        names = ("kind", "id", "url", "origin", "plugin", "ack", "role", "state", "detail")
        return {name: getattr(self, name) or None for name in names}


class Checked:
    """
    The listeners and consumers of *settings*, each resolved, and where messages are kept.

    What is wrong is noted in *problems*. No folder is made.
    """

    def __init__(self, settings: Settings, factory: ClientFactory, problems: Problems) -> None:
        self.errors = problems.errors
        self._factory = factory
        self._problems = problems
        self.listeners = []
        self.consumers = []
        self.places: list[Row] = []
        """Of the spool, and of dead letters."""
        self._letters: set[str] = set()
        if settings.spool is not None:
            self._spool(settings.spool, settings.origins["spool"])
        if settings.dead_letters is not None:
            self._dead_letters(settings.dead_letters, settings.origins["dead-letters"])
        for listener in settings.listeners:
            row = Row("listener", "listen", listener.shown, listener.origin)
            self.listeners.append(row)
            with problems.collected(listener.origin), _marked(row):
                factory.listener(listener.url)
                endpoint = Endpoint.parse(listener.url)
                row.plugin = factory.registry.load(endpoint.scheme).provided.title
                if settings.spool is None and endpoint.options.get("ack-after") == "stored":
                    raise ConfigurationError(
                        f"{endpoint.without(endpoint.options)}: ack-after=stored needs a spool to store in: "
                        "add --spool DIR, or use ack-after=delivered"
                    )
        for producer in settings.producers:
            row = Row("consumer", producer.id, producer.shown, producer.origin)
            self.consumers.append(row)
            with problems.collected(producer.origin), _marked(row):
                plan = factory.plan(producer.url, settings.delivery)
                row.client = plan.client
                row.plugin = plan.provided.title
                row.ack = plan.policy.ack.label if plan.policy.ack else ""
                row.role = plan.policy.role.value
                if plan.policy.dead_letters is not None:
                    self._dead_letters(plan.policy.dead_letters, producer.origin)

    def _spool(self, spool: Spool, origin: str) -> None:
        row = Row("spool", "spool", os.fspath(spool.path), origin)
        self.places.append(row)
        with self._problems.collected(origin), _marked(row), _told():
            user = look_at_spool(spool.path)
            if user is not None:
                row.detail = f"in use by process {user or 'unknown'}"

    def _dead_letters(self, place: str, origin: str) -> None:
        if place in self._letters:
            return
        self._letters.add(place)
        row = Row("dead-letters", "dead-letters", redact(place) if is_url(place) else place, origin)
        self.places.append(row)
        with self._problems.collected(origin), _marked(row), _told():
            if not is_url(place):
                look_at_letters(place)
                return
            plan = plan_for_letters(self._factory, place)
            row.plugin = plan.provided.title
            row.ack = plan.policy.ack.label if plan.policy.ack else ""


@contextmanager
def _told() -> Iterator[None]:
    """Have a folder that cannot be used be an error of who named it."""
    try:
        yield
    except StorageError as error:
        raise ConfigurationError(str(error)) from error


class _marked:
    """Notes in *row* that it came to an error, which goes on its way."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigurationError | PluginError):
            self._row.state, self._row.detail = "error", str(error)


def connected(checked: Checked) -> int:
    """
    Try to reach each consumer, all at once; note how that went, and return how many were not reached.

    Shadows are tried like the others, and do not count. Of other URLs it is noted that they are not tried.
    """
    rows = checked.consumers
    for row in (*checked.listeners, *checked.places):
        if row.state == "ok" and is_url(row.url):
            row.state = "not tried"

    async def all_of_them() -> None:
        await asyncio.gather(*(_connect(row, row.client) for row in rows if row.client is not None))

    asyncio.run(all_of_them())
    return sum(row.state == "unreachable" and row.role != Role.SHADOW.value for row in rows)


async def _connect(row: Row, client: Client) -> None:
    since = time.monotonic()
    try:
        async with asyncio.timeout(client.timeout):
            await client.__aenter__()
        row.state = "connected"
        row.detail = f"in {(time.monotonic() - since) * 1000:.1f} ms"
    except TimeoutError:
        row.state, row.detail = "unreachable", f"not within {format_duration(client.timeout)} (timeout=)"
    except DeliveryError as error:
        row.state, row.detail = "unreachable", str(error)
    except Exception as error:  # a plugin's own
        row.state, row.detail = "unreachable", f"{type(error).__name__}: {error}"
    finally:
        await client.aclose()


def show(checked: Checked, *, as_json: bool) -> None:
    """Print what was found."""
    rows = [*checked.listeners, *checked.consumers, *checked.places]
    if as_json:
        print_json({"rows": [row.as_json() for row in rows], "errors": checked.errors})
        return
    if not rows:
        return
    print_table(
        ("id", "url", "plugin", "ack", "from", "result"),
        [(row.id, row.url, row.plugin or "-", row.ack or "-", row.origin, _result(row)) for row in rows],
    )


def _result(row: Row) -> str:
    role = f" ({row.role})" if row.role not in ("", Role.REQUIRED.value) else ""
    if not row.detail:
        return row.state + role
    between = " " if row.state == "connected" else ": "
    return f"{row.state}{role}{between}{row.detail}"

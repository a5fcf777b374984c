"""URLs with passwords, on every path that shows something: none of them shows the password."""

import logging
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from producer_pool import (
    AsyncProducerPool,
    ClientFactory,
    ConfigurationError,
    PluginError,
    Producer,
    ProducerPool,
    bind_transport,
    open_client,
)
from producer_pool.discovery.config import Settings
from producer_pool.discovery.registry import Registry
from support.consumers import RecordingConsumer
from support.processes import daemon, run_command
from support.producers import send_lines
from support.waiting import BOUND

SECRET = "mArKer/7#@?&s3cret"
"""Holds whatever ends a part of a URL, for those who forget to write it percent-encoded."""

PLAIN = "mArKers3cret"

FRAGMENTS = ("mArKer", "s3cret", "mArKer".lower())
"""None of these may be shown. (Not even the parts into which a careless reader would cut it.)"""

MALFORMED = [
    f"tcp://user:{SECRET}@127.0.0.1:9000",
    f"tcp://user:{quote(SECRET, safe='')}@127.0.0.1:9000",
    f"tcp://{PLAIN}@127.0.0.1:9000",
    f"tcp://user:{PLAIN}@127.0.0.1",
    f"tcp://user:{PLAIN}@127.0.0.1:port",
    f"tcp://user:{PLAIN}@ho\u2100st:9000",
    f"tcp://user:{PLAIN}@[::1:9000",
    f"tcp:/user:{PLAIN}@127.0.0.1:9000",
    f"tcp:///user:{PLAIN}@127.0.0.1:9000",
    f"user:{PLAIN}@127.0.0.1:9000",
    f"tcp://user:{PLAIN}\n@127.0.0.1:9000",
    f"tcp://user:{PLAIN} @127.0.0.1:9000",
    f"tcp://user:%zz{PLAIN}@127.0.0.1:9000",
    f"nosuch://user:{PLAIN}@127.0.0.1:9000",
    f"tcp://127.0.0.1:9000?password={PLAIN}",
    f"tcp://127.0.0.1:9000?tls-key-password={PLAIN}&timeout=5",
    f"tcp://127.0.0.1:9000?token={PLAIN}&token={PLAIN}",
    f"tcp://127.0.0.1:9000?timeout=5s&api-key={quote(SECRET, safe='')}",
    f"tcp+tls://user:{PLAIN}@127.0.0.1:9000",
    f"memory://user:{PLAIN}@name",
]

PLUGIN = """
    from dataclasses import dataclass
    from producer_pool.plugin import Client, ConnectError, Listener, Transport, hookimpl, option

    @dataclass(frozen=True)
    class Options:
        passphrase: str = option("", "opens it", secret=True)
        timeout_of_lock: float = option(1.0, "seconds")

    class VaultClient(Client):
        protocol_name = "vault"

        def __init__(self, endpoint, options):
            self.address = str(endpoint)
            self.endpoint, self.options = endpoint, options

        async def connect(self):
            if self.options.timeout_of_lock != 1.0:
                raise ValueError(f"{self.endpoint!r} {self.options!r}")
            raise ConnectError(f"{self.address}: it is locked")

        async def send(self, message):
            raise AssertionError

    @hookimpl
    def producer_pool_transports():
        yield Transport(schemes=("vault",), client=VaultClient, options=Options)
"""
"""A protocol with users, passwords and a secret option, whose consumers are never there."""

VALID = [
    f"vault://user:{quote(SECRET, safe='')}@127.0.0.1:1?passphrase={PLAIN}",
    f"vault://user:{PLAIN}@127.0.0.1:1?timeout-of-lock=2",
]


def assert_hidden(*texts: object) -> None:
    for text in texts:
        shown = f"{text}\n{text!r}"
        found = [fragment for fragment in FRAGMENTS if fragment.lower() in shown.lower()]
        assert not found, shown


def assert_hidden_in(error: BaseException) -> None:
    """Look through an error as a program may show it, with all that hangs on it."""
    assert_hidden(error, error.args, "".join(traceback.format_exception(error)))


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "vault.py"
    path.write_text(textwrap.dedent(PLUGIN))
    return path


@pytest.fixture
def factory(plugin: Path) -> ClientFactory:
    registry = Registry()
    registry.register_file(str(plugin))
    return ClientFactory(registry)


@pytest.mark.parametrize("url", MALFORMED)
def test_url_that_cannot_be_used(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each of the ways to hand it over raises, and neither the error nor the log shows the password."""
    caplog.set_level(logging.DEBUG)
    with ProducerPool() as pool:
        calls: list[Callable[[], object]] = [
            lambda: ClientFactory.create(url),
            lambda: ClientFactory().plan(url),
            lambda: ClientFactory().listener(url),
            lambda: pool.add_producer("a", url),
            lambda: bind_transport(url, pool),
            lambda: open_client(url).__enter__(),
            lambda: ProducerPool.from_env({"PRODUCER_A": url}).forward_to_all("x"),
            lambda: Settings.read({}, to=[url]),
            lambda: Settings.read({}, flags={"listen": [url]}),
        ]
        errors: list[BaseException] = []
        for call in calls:
            try:
                call()
            except (ConfigurationError, PluginError) as raised:
                errors.append(raised)
        assert_hidden(pool, pool.producers)

    assert len(errors) >= 5  # Settings do not ask the plugins yet.
    for error in errors:
        assert_hidden_in(error)
    assert_hidden(caplog.text)


def test_url_that_works(factory: ClientFactory, caplog: pytest.LogCaptureFixture) -> None:
    """Results, health, stats, reprs and the log of a producer whose consumer is down hide it, too."""
    caplog.set_level(logging.DEBUG)
    with ProducerPool(factory=factory) as pool:
        for number, url in enumerate(VALID):
            pool.add_producer(f"vault{number}", url)
        results = pool.forward_to_all("hello", wait=BOUND)
        receipt = pool.submit("hello")
        receipt.results(wait=BOUND)

        assert len(results.failed) == len(VALID)
        assert_hidden(pool, results, receipt, pool.health(), pool.stats(), pool.check())
    for result in results.values():
        assert result.error is not None
        assert_hidden(result)
        assert_hidden_in(result.error)
    assert "it is locked" in caplog.text
    assert_hidden(caplog.text)


async def test_url_that_works_in_asyncio(factory: ClientFactory, caplog: pytest.LogCaptureFixture) -> None:
    """The client, the plan and the producer made from it can be printed."""
    caplog.set_level(logging.DEBUG)
    for url in VALID:
        client = factory.create(url)
        plan = factory.plan(url)
        async with Producer("a", client) as producer:
            result = await producer.forward("hello")

            assert_hidden(client, plan, plan.endpoint, plan.endpoint.options, producer, result)
    async with AsyncProducerPool(factory=factory) as pool:
        await pool.add_producer("a", VALID[0])
        assert_hidden(pool, await pool.forward_to_all("hello"), await pool.health())
    assert_hidden(caplog.text)


def test_commands_and_urls_that_cannot_be_used(tmp_path: Path) -> None:
    """Whatever command gets them, and from wherever: neither stdout nor stderr shows a password."""
    usable = [url for url in MALFORMED if "\n" not in url]
    to = [word for url in usable for word in ("--to", url)]
    listen = [word for url in usable for word in ("--listen", url)]
    environ = {f"PRODUCER_C{number}": url for number, url in enumerate(MALFORMED)}
    files = {}
    for number, url in enumerate(MALFORMED):
        path = tmp_path / f"url{number}"
        path.write_text(url)
        files[f"PRODUCER_F{number}_FILE"] = str(path)
    config = tmp_path / "pool.toml"
    tables = [f"[producers.p{number}]\nurl = '{url}'\n" for number, url in enumerate(usable)]
    config.write_text("".join(tables))

    for ended in (
        run_command("run", *to),
        run_command("run", *listen),
        run_command("run", env={**environ, **files}),
        run_command("run", "--config", str(config)),
        run_command("check", "--connect", *to, *listen, env={**environ, **files}),
        run_command("check", "--json", "--config", str(config)),
        run_command("send", usable[0], "hello"),
        run_command("sink", usable[1]),
        run_command("plugins", "show", f"user:{PLAIN}@127.0.0.1"),
        run_command("plugins", "show", f"{PLAIN}@127.0.0.1"),
    ):
        assert ended.returncode in (2, 78), ended
        assert_hidden(ended.stdout.decode(), ended.stderr.decode())


def test_daemon_with_a_url_that_works(plugin: Path) -> None:
    """Its banner, its log, its status and its last words hide it, at the finest log level."""
    with RecordingConsumer() as consumer:
        to = [word for number, url in enumerate(VALID) for word in ("--to", f"vault{number}={url}")]
        quiet = ("--drain", "100ms", "--log-level", "debug")
        with daemon("--plugin", str(plugin), *to, "--to", f"well={consumer.url}", *quiet) as running:
            send_lines(running.port, [b"hello"])
            consumer.wait_for(1)
            running.wait_for_line("vault0: down: .*it is locked")
            running.status()

            assert running.terminate() == 1
            assert_hidden(running.said, running.events)


def test_commands_with_a_url_that_works(plugin: Path) -> None:
    """Check --connect and send say that it is locked, and not what would open it."""
    checked = run_command("check", "--connect", "--plugin", str(plugin), *("--to", VALID[0]))
    in_json = run_command("check", "--connect", "--json", "--plugin", str(plugin), *("--to", VALID[1]))

    assert checked.returncode == in_json.returncode == 69
    assert b"it is locked" in checked.stdout + checked.stderr
    for ended in (checked, in_json):
        assert_hidden(ended.stdout.decode(), ended.stderr.decode())

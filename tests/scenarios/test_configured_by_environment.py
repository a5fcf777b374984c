"""A pool that its environment configures: the daemon without arguments, and a pool in a program."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from producer_pool import AsyncProducerPool, ConfigurationError, ProducerPool
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.processes import daemon, run_command
from support.producers import send_lines

KUBERNETES = {
    "PRODUCER_SERVICE_HOST": "10.0.0.11",
    "PRODUCER_SERVICE_PORT": "6379",
    "PRODUCER_PORT": "tcp://10.0.0.11:6379",
    "PRODUCER_PORT_6379_TCP": "tcp://10.0.0.11:6379",
    "PRODUCER_PORT_6379_TCP_PROTO": "tcp",
    "PRODUCER_PORT_6379_TCP_PORT": "6379",
    "PRODUCER_PORT_6379_TCP_ADDR": "10.0.0.11",
}
"""What Kubernetes sets in each pod beside a Service named producer."""


@pytest.fixture
def consumers() -> Iterator[tuple[RecordingConsumer, RecordingConsumer]]:
    with RecordingConsumer() as one, RecordingConsumer() as two:
        yield one, two


Consumers = tuple[RecordingConsumer, RecordingConsumer]


def test_daemon_without_arguments(consumers: Consumers) -> None:
    """Each PRODUCER_ variable is a consumer, named after it, and gets every message."""
    one, two = consumers
    ledger = Ledger()
    env = {
        "PRODUCER_CONSUMER1": one.url,
        "PRODUCER_CONSUMER2": two.url,
        "PRODUCER_POOL_LISTEN": "tcp://127.0.0.1:0",
    }
    with daemon(env=env, listens=False) as running:
        send_lines(running.port, ledger.write_many(1000))
        one.wait_for(1000)
        two.wait_for(1000)
        assert running.terminate() == 0

        assert list(running.last["consumers"]) == ["consumer1", "consumer2"]
    assert ledger.judge(one.messages).exact
    assert ledger.judge(two.messages).exact


def test_default_listener(consumers: Consumers) -> None:
    """Without a word about it, the daemon listens at port 9100 of the loopback interface."""
    env = {"PRODUCER_CONSUMER1": consumers[0].url}
    with socket.socket() as holder:
        # Whoever else has the port serves the purpose, too: the daemon has to say that it is taken.
        with suppress(OSError):
            holder.bind(("127.0.0.1", 9100))
            holder.listen()
        ended = run_command("run", env=env)

    assert ended.returncode == 1
    assert b"tcp://127.0.0.1:9100: address already in use" in ended.stderr


def test_natural_order(consumers: Consumers) -> None:
    """Consumer 2 comes before consumer 10, in the results of an embedded pool too."""
    environ = {f"PRODUCER_CONSUMER{number}": "null:" for number in (10, 2, 1)}
    with ProducerPool.from_env(environ) as pool:
        results = pool.forward_to_all("hello")

    assert list(results) == ["consumer1", "consumer2", "consumer10"]
    assert results.ok


def test_embedded_pool(consumers: Consumers) -> None:
    """from_env() adds the same producers, and forwards to them."""
    one, two = consumers
    ledger = Ledger()
    environ = {"PRODUCER_CONSUMER_ONE": one.url, "PRODUCER_CONSUMER_TWO": f"{two.url}?timeout=5s"}
    with ProducerPool.from_env(environ) as pool:
        results = [pool.forward_to_all(message) for message in ledger.write_many(10)]

        assert pool.producers == ("consumer-one", "consumer-two")
    assert all(result.ok for result in results)
    assert ledger.judge(one.wait_for(10)).exact
    assert ledger.judge(two.wait_for(10)).exact


async def test_embedded_pool_in_asyncio(consumers: Consumers) -> None:
    """The twin for asyncio does the same."""
    one, two = consumers
    environ = {"PRODUCER_A": one.url, "PRODUCER_B": two.url}
    async with await AsyncProducerPool.from_env(environ) as pool:
        results = await pool.forward_to_all("hello")

    assert results.ok
    assert list(results) == ["a", "b"]
    assert one.wait_for(1) == two.wait_for(1) == [b"hello"]


def test_url_in_a_file(consumers: Consumers, tmp_path: Path) -> None:
    """PRODUCER_<ID>_FILE names a file with the URL: for the daemon and embedded."""
    one, two = consumers
    file = tmp_path / "url"
    file.write_text(f"{one.url}\n")
    environ = {"PRODUCER_SECRET_FILE": str(file), "PRODUCER_OPEN": two.url}
    with ProducerPool.from_env(environ) as pool:
        assert pool.forward_to_all("embedded").ok
    with daemon(env=environ) as running:
        send_lines(running.port, [b"daemon"])

        assert one.wait_for(2) == two.wait_for(2) == [b"embedded", b"daemon"]


def test_both_forms_are_set(consumers: Consumers, tmp_path: Path) -> None:
    """It is an error that names both variables."""
    env = {"PRODUCER_A": consumers[0].url, "PRODUCER_A_FILE": str(tmp_path / "url")}
    ended = run_command("run", env=env)

    assert ended.returncode == 78
    assert b"PRODUCER_A and PRODUCER_A_FILE are both set" in ended.stderr


def test_kubernetes_service_named_producer(consumers: Consumers) -> None:
    """Its variables are ignored, with one warning that names them; the producers work."""
    one, two = consumers
    env = {**KUBERNETES, "PRODUCER_A": one.url, "PRODUCER_B": two.url}
    with daemon(env=env) as running:
        send_lines(running.port, [b"hello"])
        one.wait_for(1)
        two.wait_for(1)
        assert running.terminate() == 0

        assert list(running.last["consumers"]) == ["a", "b"]
    warnings = [line for line in running.lines if "Kubernetes" in line]
    assert len(warnings) == 1
    assert all(name in warnings[0] for name in KUBERNETES if name != "PRODUCER_SERVICE_HOST")


def test_kubernetes_variables_embedded(consumers: Consumers, caplog: pytest.LogCaptureFixture) -> None:
    """They are no producers of an embedded pool either."""
    with ProducerPool.from_env({**KUBERNETES, "PRODUCER_A": consumers[0].url}) as pool:
        assert pool.producers == ("a",)
    assert caplog.text.count("Kubernetes") == 1


@pytest.mark.parametrize("value", ["127.0.0.1:9000", "hello", "", "tcp//127.0.0.1:9000"])
def test_value_that_is_no_url(value: str) -> None:
    """The error names the variable and what to write, for the daemon and embedded."""
    environ = {"PRODUCER_CONSUMER1": value}
    with pytest.raises(ConfigurationError, match=r"PRODUCER_CONSUMER1.*tcp://"):
        ProducerPool.from_env(environ)
    ended = run_command("run", env=environ)

    assert ended.returncode == 78
    assert b"PRODUCER_CONSUMER1" in ended.stderr
    assert b"tcp://" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_several_values_are_wrong() -> None:
    """All of them are named at once."""
    ended = run_command("run", env={"PRODUCER_A": "nonsense", "PRODUCER_B": "quic://127.0.0.1:1"})

    assert ended.returncode == 78
    assert b"PRODUCER_A" in ended.stderr
    assert b"PRODUCER_B" in ended.stderr


def test_no_producer_at_all() -> None:
    """The daemon ends at once and says how to name one."""
    ended = run_command("run")

    assert ended.returncode == 78
    assert b"PRODUCER_CONSUMER1=tcp://127.0.0.1:9000" in ended.stderr

"""Command line, environment and file together."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from producer_pool.discovery.config import SETTINGS, Settings
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool

MiB = 1024 * 1024


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "pool.toml"
    path.write_text(
        """
        [pool]
        listen = "tcp://127.0.0.1:1"
        buffer = "1MiB"
        drain = "1s"
        policy = "direct"
        [producers.billing]
        url = "tcp://file:1"
        [producers.audit]
        url = "tcp://file:2"
        [plugins]
        deny = ["a"]
        use = { tcp = "file-tcp", udp = "file-udp" }
        """
    )
    return str(path)


def test_nothing_configured() -> None:
    """Everything has its default, and nobody chose a policy."""
    settings = Settings.from_env({})

    assert settings == Settings()
    assert settings.policy is None
    assert settings.limits == Limits()


def test_defaults_of_the_daemon() -> None:
    """It listens, and relays, unless told otherwise."""
    settings = Settings.from_env({}).for_daemon()

    assert [one.url for one in settings.listeners] == ["tcp://127.0.0.1:9100"]
    assert settings.listeners[0].origin == "default"
    assert settings.policy == DeliveryPolicy.relay()
    chosen = Settings.from_env(
        {"PRODUCER_POOL_POLICY": "direct", "PRODUCER_POOL_LISTEN": "udp://h:1"}
    ).for_daemon()
    assert chosen.policy == DeliveryPolicy.direct()
    assert [one.url for one in chosen.listeners] == ["udp://h:1"]


def test_documented_defaults() -> None:
    """The table says what is so."""
    assert SETTINGS["buffer"].default == "256MiB"
    assert Limits().buffer == 256 * MiB
    assert SETTINGS["drain"].default == "10s"
    assert Limits().drain == 10.0
    assert SETTINGS["log-level"].default == Settings().log_level
    assert SETTINGS["log-level"].variable == "PRODUCER_POOL_LOG_LEVEL"
    assert SETTINGS["log-level"].flag == "--log-level"


def test_precedence_of_settings(file: str) -> None:
    """Command line before environment before file before default; each knows where it was found."""
    environ = {"PRODUCER_POOL_CONFIG": file, "PRODUCER_POOL_BUFFER": "2MiB", "PRODUCER_POOL_DRAIN": "2s"}
    settings = Settings.read(environ, flags={"buffer": "3MiB", "drain": None, "listen": []})

    assert settings.limits == Limits(buffer=3 * MiB, drain=2.0)
    assert settings.policy == DeliveryPolicy.direct()
    assert settings.log_level == "info"
    assert settings.origins == {
        "config": "PRODUCER_POOL_CONFIG",
        "listen": f"{file}: [pool] listen",
        "buffer": "--buffer",
        "drain": "PRODUCER_POOL_DRAIN",
        "policy": f"{file}: [pool] policy",
    }


def test_listeners_of_several_sources(file: str) -> None:
    """Only those of the highest one count."""
    environ = {"PRODUCER_POOL_CONFIG": file, "PRODUCER_POOL_LISTEN": "udp://h:1 udp://h:2"}

    assert [one.url for one in Settings.from_env(environ).listeners] == ["udp://h:1", "udp://h:2"]
    command_line = Settings.read(environ, flags={"listen": ["ws://h:1"]})
    assert [(one.url, one.origin) for one in command_line.listeners] == [("ws://h:1", "--listen")]


def test_producers_of_several_sources(file: str) -> None:
    """They go together; of two with one id the higher one counts, in the place of the lower one."""
    environ = {"PRODUCER_AUDIT": "tcp://env:1", "PRODUCER_METRICS": "tcp://env:2"}
    settings = Settings.read(environ, to=["metrics=tcp://line:1", "tcp://line:2"], flags={"config": file})

    assert [(one.id, one.url) for one in settings.producers] == [
        ("billing", "tcp://file:1"),
        ("audit", "tcp://env:1"),
        ("metrics", "tcp://line:1"),
        ("consumer1", "tcp://line:2"),
    ]
    assert settings.producers[1].origin == f"PRODUCER_AUDIT (instead of {file}: [producers.audit])"


def test_consumers_without_an_id() -> None:
    """They are numbered, and take nobody's name."""
    settings = Settings.read(
        {"PRODUCER_CONSUMER2": "tcp://env:1"}, to=["tcp://a:1?x=y", "consumer1=tcp://b:1", "tcp://c:1"]
    )

    assert [(one.id, one.url) for one in settings.producers] == [
        ("consumer2", "tcp://env:1"),
        ("consumer1", "tcp://b:1"),
        ("consumer3", "tcp://a:1?x=y"),
        ("consumer4", "tcp://c:1"),
    ]


def test_selection_of_plugins_in_several_sources(file: str) -> None:
    """What anybody denies is denied; of two choices for one scheme, the higher one counts."""
    environ = {"PRODUCER_POOL_DISABLE_PLUGINS": "b", "PRODUCER_POOL_PLUGIN_TCP": "env-tcp"}
    plugins = Settings.read(environ, flags={"config": file}).plugins

    assert plugins.deny == {"a", "b"}
    assert plugins.choice("tcp") == "env-tcp"
    assert plugins.choice("udp") == "file-udp"
    assert plugins.allow is None


@pytest.mark.parametrize(
    "environ, message",
    [
        ({"PRODUCER_POOL_BUFFER": "lots"}, "PRODUCER_POOL_BUFFER: 'lots' is not a size in bytes"),
        ({"PRODUCER_POOL_BUFFER": "0"}, "PRODUCER_POOL_BUFFER: the pool's buffer must be at least 1 byte"),
        ({"PRODUCER_POOL_DRAIN": "soon"}, "PRODUCER_POOL_DRAIN: 'soon' is not a duration"),
        (
            {"PRODUCER_POOL_POLICY": "rely"},
            r"PRODUCER_POOL_POLICY: 'rely' is none of direct, relay; did you mean relay\?",
        ),
        ({"PRODUCER_POOL_LOG_LEVEL": "loud"}, "PRODUCER_POOL_LOG_LEVEL: 'loud' is none of debug"),
        ({"PRODUCER_POOL_LISTEN": "here"}, "PRODUCER_POOL_LISTEN is no URL; write a URL such as"),
        ({"PRODUCER_POOL_LISTEN": "udp://h:1 udp://h:1"}, "PRODUCER_POOL_LISTEN names udp://h:1 twice"),
        (
            {"PRODUCER_POOL_CONFIG": "/not/there"},
            "/not/there: cannot be read: .*; name a file",
        ),
    ],
)
def test_value_that_cannot_be_used(environ: dict[str, str], message: str) -> None:
    """The error says where it stands, and what to write."""
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_env(environ)


def test_two_listeners_at_port_0() -> None:
    """They get two ports."""
    assert len(Settings.from_env({"PRODUCER_POOL_LISTEN": "udp://h:0 udp://h:0"}).listeners) == 2


@pytest.mark.parametrize(
    "to, message",
    [
        (["a=null:", "A=null:"], "--to and --to both name the producer a"),
        (["nowhere"], "--to is no URL; write --to tcp://host:port, or --to ID=tcp://host:port"),
        (["a=nowhere"], "--to a= is no URL; write --to a=tcp://host:port"),
        (["-x=null:"], "--to -x=: an id starts with"),
        (["a b=tcp://h:1"], "--to a b=: an id starts with a letter or digit"),
        (["a\nb=tcp://h:1"], r"--to 'a\\nb'=: an id starts with a letter or digit"),
        (["=tcp://h:1"], "--to =: an id starts with a letter or digit"),
        (["x-file=null:"], "--to x-file=: the id of a producer does not end in -file"),
    ],
)
def test_consumer_on_the_command_line_that_cannot_be_used(to: list[str], message: str) -> None:
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match=message):
        Settings.read({}, to=to)


def test_unknown_flag() -> None:
    """There is no setting that is not in the table."""
    with pytest.raises(ConfigurationError, match=r"there is no setting bufer; did you mean buffer\?"):
        Settings.read({}, flags={"bufer": "1"})


def test_secret_in_settings(caplog: pytest.LogCaptureFixture) -> None:
    """It is nowhere to be seen; on a command line it was seen already, and a warning says so."""
    environ = {"PRODUCER_X": "tcp://u:hunter2@h:1", "PRODUCER_POOL_LISTEN": "tcp://u:hunter2@h:1"}
    settings = Settings.read(environ, to=["tcp://v:hunter2@h:2"])

    assert "hunter2" not in repr(settings)
    assert [one.shown for one in settings.producers] == ["tcp://***@h:1", "tcp://***@h:2"]
    assert settings.listeners[0].shown == "tcp://***@h:1"
    assert "hunter2" not in caplog.text
    assert "use PRODUCER_<ID>_FILE instead" in caplog.text


def test_spool() -> None:
    """Its settings come together in one value, wherever each of them stands."""
    settings = Settings.read(
        {"PRODUCER_POOL_SPOOL": "here", "PRODUCER_POOL_SPOOL_AGE": "7d"},
        flags={"spool-sync": "interval:50ms", "spool-size": "1GiB"},
    )

    assert settings.spool == Spool("here", sync=0.05, size=1024 * MiB, age=7 * 86400)


@pytest.mark.parametrize("word,seconds", [("always", 0.0), ("os", math.inf), ("interval:2s", 2.0)])
def test_when_a_spool_is_synced(word: str, seconds: float) -> None:
    """There is a word for each of the three ways."""
    settings = Settings.read({}, flags={"spool": "here", "spool-sync": word, "spool-age": "unlimited"})

    assert settings.spool == Spool("here", sync=seconds)


@pytest.mark.parametrize(
    "flags,fault",
    [
        ({"spool-sync": "os"}, "--spool-sync: there is no spool; name its folder: --spool DIR"),
        ({"spool": "s", "spool-sync": "now"}, "--spool-sync: 'now' is none of always, interval:DURATION"),
        ({"spool": "s", "spool-sync": "interval:now"}, "--spool-sync: 'now' is not a duration"),
        (
            {"spool": "s", "spool-sync": "interval:0"},
            "--spool-sync: 'interval:0' is no time between two syncs",
        ),
        (
            {"spool": "s", "spool-sync": "interval:0ms"},
            "--spool-sync: 'interval:0ms' is no time between two syncs; for each one at once: always",
        ),
        (
            {"spool": "s", "spool-sync": "interval:50"},
            "--spool-sync: 'interval:50' has no unit; write interval:50ms or interval:50s",
        ),
        ({"spool": "s", "spool-size": "1kB"}, "--spool-size: spool-size must be at least 1MiB"),
        ({"spool": "s", "spool-age": "0"}, "--spool-age: spool-age must be above 0 seconds"),
        ({"spool": ""}, "--spool: it is empty, or holds a zero byte; write the path of a folder"),
        ({"dead-letters": ""}, "--dead-letters: it is empty, or holds a zero byte"),
    ],
)
def test_spools_that_cannot_be(flags: dict[str, str], fault: str) -> None:
    """Each says what would do."""
    with pytest.raises(ConfigurationError) as raised:
        Settings.read({}, flags=flags)

    assert str(raised.value).startswith(fault)


def test_dead_letters() -> None:
    """They are kept as they are written: a folder, or a URL."""
    assert Settings.read({"PRODUCER_POOL_DEAD_LETTERS": "tcp://h:1"}).dead_letters == "tcp://h:1"


def test_policy_with_dead_letters() -> None:
    """Those of all producers come with their policy, whichever that is; without them, it is as it was."""
    letters = {"PRODUCER_POOL_DEAD_LETTERS": "letters"}
    relay = Settings.read({**letters, "PRODUCER_POOL_POLICY": "relay"})

    assert Settings.read(letters).delivery == replace(DeliveryPolicy.direct(), dead_letters="letters")
    assert relay.delivery == replace(DeliveryPolicy.relay(), dead_letters="letters")
    assert relay.policy == DeliveryPolicy.relay()
    assert Settings.read({}).delivery is None

"""What the environment says, and what only looks as if it did."""

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.discovery.environment import link_variables, misnamed, natural, read_environment, separated
from producer_pool.discovery.layer import SETTINGS
from producer_pool.model.errors import ConfigurationError

KUBERNETES = {
    "PRODUCER_PORT": "tcp://10.0.0.11:6379",
    "PRODUCER_PORT_6379_TCP": "tcp://10.0.0.11:6379",
    "PRODUCER_PORT_6379_TCP_PROTO": "tcp",
    "PRODUCER_PORT_6379_TCP_PORT": "6379",
    "PRODUCER_PORT_6379_TCP_ADDR": "10.0.0.11",
    "PRODUCER_SERVICE_HOST": "10.0.0.11",
    "PRODUCER_SERVICE_PORT": "6379",
    "PRODUCER_SERVICE_PORT_METRICS": "9100",
}


def renamed(service: str) -> dict[str, str]:
    return {name.replace("PRODUCER", service, 1): value for name, value in KUBERNETES.items()}


def ids(environ: Mapping[str, str]) -> list[str]:
    return list(read_environment(environ).producers)


def fault(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(environ)
    return "".join(traceback.format_exception(caught.value)).partition("ConfigurationError: ")[2].strip()


# -- producers -------------------------------------------------------------------------------------------


def test_producers() -> None:
    """Their ids are in small letters, with a dash for the underscore; they know where they stand."""
    layer = read_environment(
        {"PRODUCER_DATABASE_WRITER": "tcp://127.0.0.1:9000", "PATH": "/bin", "PRODUCERX": "x"}
    )
    (producer,) = layer.producers.values()

    assert producer.id == "database-writer"
    assert producer.url == "tcp://127.0.0.1:9000"
    assert producer.origin == "PRODUCER_DATABASE_WRITER"


def test_many_producers() -> None:
    """They come in natural order, whatever the order of the environment."""
    environ = {f"PRODUCER_CONSUMER{number}": "null:" for number in (10, 9, 1, 2)}

    assert ids({**environ, "PRODUCER_AUDIT": "null:"}) == [
        "audit",
        "consumer1",
        "consumer2",
        "consumer9",
        "consumer10",
    ]


@given(st.lists(st.text("ab0123456789_", max_size=6)))
def test_natural_order(names: list[str]) -> None:
    """It is a total order, in which equal names alone are equal but for leading zeros."""
    ordered = sorted(names, key=natural)

    assert sorted(ordered, key=natural) == ordered
    assert all(natural(f"x{number}") < natural(f"x{number + 1}") for number in range(20))


@pytest.mark.parametrize("name", ["PRODUCERS_BILLING", "producer_billing", "Producer_Billing", "PRODUCR_B"])
def test_name_that_is_nearly_one(name: str) -> None:
    """Of a variable that holds a URL, it is said which name may be meant, and not what it holds."""
    environ = {name: "tcp://user:hunter2@127.0.0.1:9000"}

    assert ids(environ) == []
    assert misnamed(environ) == [
        f"{name} is not read; did you mean PRODUCER_{name.partition('_')[2].upper()}?"
    ]


def test_names_that_are_not_meant() -> None:
    """Not what is read, what others are called, what holds no URL, or what Kubernetes sets."""
    assert misnamed(dict.fromkeys(("PRODUCER_A", "PRODUCT_URL", "PROVIDER_URL"), "null:")) == []
    assert misnamed({"PRODUCERS_BILLING": "127.0.0.1:9000", "PRODUCERS": "null:", "producer_": "null:"}) == []
    assert misnamed(renamed("PRODUCERS") | renamed("PRODUCERS_EU")) == []


@pytest.mark.parametrize("value", ["127.0.0.1:9000", "localhost:1"])
def test_address_without_a_scheme(value: str) -> None:
    """The error says how to write it."""
    text = fault({"PRODUCER_X": value})

    assert text.startswith("PRODUCER_X: ")
    assert text.endswith(f" has no scheme; did you mean tcp://{value}?")


@pytest.mark.parametrize(
    "value", ["hunter2", "yes", "/run/x", "hunter2 hunter2", "9000", "[::1]:9000", "hun:ter2 x"]
)
def test_value_that_is_no_url(value: str) -> None:
    """The error names the variable and what to write, and does not show the value: it may be a secret."""
    text = fault({"PRODUCER_TOKEN": value})

    assert text == (
        "PRODUCER_TOKEN is no URL; write PRODUCER_TOKEN=tcp://host:port, "
        "or name it otherwise: PRODUCER_... names producers"
    )


def test_empty_value() -> None:
    """It is an error, and not nothing."""
    assert fault({"PRODUCER_X": ""}).startswith("PRODUCER_X is empty; write PRODUCER_X=tcp://host:port")


def test_url_that_is_wrong() -> None:
    """The error names the variable and hides the password."""
    text = fault({"PRODUCER_X": "tcp://u:hunter2#@h:1"})

    assert text.startswith("PRODUCER_X: tcp://")
    assert "%23" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "name, message",
    [
        ("PRODUCER_", "PRODUCER_: an id starts with a letter or digit"),
        ("PRODUCER__X", "PRODUCER__X: an id starts with"),
        ("PRODUCER_Ä", "PRODUCER_Ä: an id starts with"),
        ("PRODUCER_X_FILE_FILE", "PRODUCER_X_FILE_FILE: the id of a producer does not end in -file"),
    ],
)
def test_name_that_makes_no_id(name: str, message: str) -> None:
    """The error says what an id is."""
    assert fault({name: "null:"}).startswith(message)


def test_two_names_for_one_id() -> None:
    """It is an error that names both."""
    assert fault({"PRODUCER_A_B": "null:", "PRODUCER_a_b": "null:"}) == (
        "PRODUCER_A_B and PRODUCER_a_b both name the producer a-b; leave one out"
    )


# -- files -----------------------------------------------------------------------------------------------


def test_url_in_a_file(tmp_path: Path) -> None:
    """It is read, without the end of its line; the file's name is what is known of it."""
    (tmp_path / "secret").write_text("tcp://u:hunter2@h:1\n")
    layer = read_environment({"PRODUCER_X_Y_FILE": str(tmp_path / "secret")})
    producer = layer.producers["x-y"]

    assert producer.url == "tcp://u:hunter2@h:1"
    assert producer.origin == "PRODUCER_X_Y_FILE"
    assert producer.shown == "tcp://***@h:1"
    assert "hunter2" not in repr(layer)


def test_producer_named_file() -> None:
    """FILE alone is an id as any other."""
    assert ids({"PRODUCER_FILE": "null:"}) == ["file"]


def test_url_and_file(tmp_path: Path) -> None:
    """Both forms of one producer are an error."""
    environ = {"PRODUCER_X": "null:", "PRODUCER_X_FILE": str(tmp_path / "x")}

    assert fault(environ) == "PRODUCER_X and PRODUCER_X_FILE are both set; unset one"


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "should name a file that holds a URL; that file cannot be read: No such file or directory"),
        (b"\xff\xfe", "should name a file that holds a URL; that file cannot be read: it is no text"),
        (b"", "the file that PRODUCER_X_FILE names is empty; write a URL into it"),
        (b"hunter2\n", "the file that PRODUCER_X_FILE names is no URL; write a URL into it"),
        (b"tcp://u:hunter2@h:1 \n hunter2", "white space"),
    ],
)
def test_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The error names the variable, and shows nothing of what the file holds."""
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    text = fault({"PRODUCER_X_FILE": str(tmp_path / "x")})

    assert message in text
    assert "PRODUCER_X_FILE" in text
    assert "hunter2" not in text


def test_url_in_the_place_of_a_file() -> None:
    """It is not shown as the name of a file that is not there."""
    text = fault({"PRODUCER_X_FILE": "tcp://u:hunter2@h:1"})

    assert "should name a file" in text
    assert "hunter2" not in text


# -- variables of Kubernetes and Docker ------------------------------------------------------------------


@pytest.mark.parametrize("service", ["PRODUCER", "PRODUCER_CACHE", "PRODUCER_POOL", "PRODUCER_POOL_METRICS"])
def test_service_of_such_a_name(service: str, caplog: pytest.LogCaptureFixture) -> None:
    """What Kubernetes injects for it is ignored, with one warning that says how to turn it off."""
    layer = read_environment({**renamed(service), "PRODUCER_A": "null:"})

    assert list(layer.producers) == ["a"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert all(name in record.getMessage() for name in renamed(service))
    assert "enableServiceLinks: false" in record.getMessage()
    assert "10.0.0.11" not in record.getMessage()


def test_container_of_such_a_name() -> None:
    """So is what Docker injects for a linked container."""
    linked = {
        "PRODUCER_DB_PORT": "tcp://172.17.0.5:6379",
        "PRODUCER_DB_PORT_6379_TCP": "tcp://172.17.0.5:6379",
        "PRODUCER_DB_PORT_6379_TCP_ADDR": "172.17.0.5",
        "PRODUCER_DB_NAME": "/web/producer_db",
        "PRODUCER_DB_ENV_VERSION": "7",
    }

    assert link_variables(linked) == linked.keys()


def test_producer_that_only_looks_like_a_service(caplog: pytest.LogCaptureFixture) -> None:
    """Without what comes with a service, such a name is a producer's."""
    environ = {"PRODUCER_SEA_PORT": "null:", "PRODUCER_X_NAME": "null:", "PRODUCER_X_SERVICE_PORT": "null:"}

    assert ids(environ) == ["sea-port", "x-name", "x-service-port"]
    assert caplog.records == []


# -- settings --------------------------------------------------------------------------------------------


def test_settings() -> None:
    """Each value knows its variable; lists are separated."""
    values = read_environment(
        {"PRODUCER_POOL_LISTEN": "tcp://127.0.0.1:1, unix:@x\nunix:/y", "PRODUCER_POOL_LOG_LEVEL": " debug "}
    ).values

    assert [value.text for value in values["listen"]] == ["tcp://127.0.0.1:1", "unix:@x", "unix:/y"]
    assert values["log-level"] == (("debug", "PRODUCER_POOL_LOG_LEVEL"),)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("tcp://a:1,tcp://b:2", ["tcp://a:1", "tcp://b:2"]),
        ("tcp://a:1?x=1,2 ws://b", ["tcp://a:1?x=1,2", "ws://b"]),
        ("nats://a:1,b:2", ["nats://a:1,b:2"]),
        ("  ", []),
    ],
)
def test_separated_values(text: str, expected: list[str]) -> None:
    """A comma separates only where a URL follows, because it may stand in one."""
    assert list(separated(text)) == expected


def test_unknown_setting() -> None:
    """The error suggests, lists, and says that the prefix is reserved."""
    text = fault({"PRODUCER_POOL_BUFER": "1MiB"})

    assert "PRODUCER_POOL_BUFER is no setting" in text
    assert "did you mean PRODUCER_POOL_BUFFER?" in text
    assert all(setting.variable in text for setting in SETTINGS.values())


def test_producer_named_pool() -> None:
    """The prefix without anything behind it is reserved as well."""
    assert "PRODUCER_POOL is reserved" in fault({"PRODUCER_POOL": "tcp://h:1"})


def test_empty_setting() -> None:
    """It is an error that says what to write; only the list of plugins may be empty."""
    assert fault({"PRODUCER_POOL_BUFFER": " "}) == (
        "PRODUCER_POOL_BUFFER is empty; write PRODUCER_POOL_BUFFER=SIZE, or unset it"
    )
    assert fault({"PRODUCER_POOL_PLUGIN_TCP": ""}).startswith("PRODUCER_POOL_PLUGIN_TCP is empty")
    assert read_environment({"PRODUCER_POOL_PLUGINS": ""}).plugins.allow == frozenset()


def test_selection_of_plugins() -> None:
    """It is known as settings are, and read in any spelling of the names."""
    plugins = read_environment(
        {
            "PRODUCER_POOL_PLUGINS": "A_b, c.d",
            "PRODUCER_POOL_DISABLE_PLUGINS": "E",
            "PRODUCER_POOL_REQUIRE_PLUGINS": "A_b",
            "PRODUCER_POOL_PLUGIN_TCP_TLS": "Acme_Tcp",
            "PRODUCER_POOL_REQUIRE_SYSTEM": "1",
        }
    ).plugins

    assert plugins.allow == frozenset({"a-b", "c-d"})
    assert plugins.deny == {"e"}
    assert plugins.required == {"a-b"}
    assert plugins.choice("tcp+tls") == "acme-tcp"
    assert plugins.choice("tcp") is None


SECRETS = st.text("abcXYZ019", min_size=10, max_size=20).map(lambda text: f"Mark{text}")


@given(
    SECRETS,
    st.sampled_from(
        ["{}", "tcp://u:{}@h:x y", "tcp://{}#@h", "u:{}@h", "{} {}", "tcp://h?password={}&x", "{}:"]
    ),
)
def test_secret_in_any_variable(secret: str, form: str) -> None:
    """No error shows what stands in a variable, if that may be one."""
    for name in ("PRODUCER_X", "PRODUCER_X_FILE", "PRODUCER_POOL_X", "PRODUCER_POOL", "PRODUCER__"):
        try:
            read_environment({name: form.format(secret, secret)})
        except ConfigurationError as error:
            text = "".join(traceback.format_exception(error))
        else:
            text = ""
        assert secret not in text


@pytest.mark.parametrize(
    "name",
    [
        "PRODUCER_ONE:tcp://user:hush@host:1?timeout",
        "PRODUCER_POOL_X:tcp://u:hush@h?a",
        "PRODUCER_X:u:hush@h",
    ],
)
def test_colon_instead_of_an_equals_sign(name: str) -> None:
    """What was meant as a value is a part of the name then: its secret is not shown."""
    with pytest.raises(ConfigurationError) as raised:
        read_environment({name: "5s"})

    assert name.partition(":")[0] in str(raised.value)
    assert "hush" not in str(raised.value)


def test_settings_that_are_printed() -> None:
    """A listener's URL may have a secret, which its repr does not show."""
    layer = read_environment({"PRODUCER_POOL_LISTEN": "wss://user:hush@127.0.0.1:1?token=hush"})

    assert "hush" not in repr(layer)
    assert layer.values["listen"][0].text.startswith("wss://user:hush@")

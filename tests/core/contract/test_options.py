"""Options: from a query to a dataclass, and what documentation prints of it."""

import dataclasses
import enum
import math
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from producer_pool.contract.delivery_options import delivery_defaults, delivery_options, delivery_policy
from producer_pool.contract.options import (
    DELIVERY_NAMES,
    Duration,
    Option,
    Size,
    coerce,
    describe,
    names,
    option,
    secret_names,
)
from producer_pool.model.errors import InvalidOption
from producer_pool.model.framing import LINES, NUL, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Overflow, Retry, Role

MARK = "S3cretMark"


class Mode(enum.Enum):
    FAST = "fast"
    VERY_SAFE = "very-safe"
    TWO = 2


@dataclasses.dataclass(frozen=True)
class Sample:
    name: str = option("x", "a text")
    count: int = option(1, "a number")
    ratio: float = option(0.5, "a fraction")
    verbose: bool = option(False, "a switch")
    idle_timeout: Duration | None = option(None, "a time")
    max_message: Size = option(64 * 1024, "a size")
    tls_ca: Path | None = option(None, "a file")
    framing: Framing = option(LINES, "a framing")
    mode: Mode = option(Mode.FAST, "a word")
    topics: tuple[str, ...] = option((), "some words")
    ports: tuple[int, ...] = option((1, 2), "some numbers")
    note: str = option("", "hidden by declaration", secret=True)
    api_token: str | None = option(None, "hidden by name")


@dataclasses.dataclass(frozen=True)
class Strict:
    topic: str
    limit: int = 10
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    password: str = ""
    choices: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("a", "b"))

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be above 0, with {self.password!r}, and not {self.limit}")


def one(**query: str) -> Sample:
    return coerce(Sample, {name.replace("_", "-"): text for name, text in query.items()}, where="here")


def refused(kind: type, **query: str) -> str:
    """Return the text of the error, after a look at all that hangs on it."""
    with pytest.raises(InvalidOption) as raised:
        coerce(kind, {name.replace("_", "-"): text for name, text in query.items()}, where="here")
    error: BaseException | None = raised.value
    assert MARK not in "".join(traceback.format_exception(raised.value))
    while error is not None:
        assert MARK not in f"{error} {error!r}"
        error = error.__context__
    return str(raised.value)


def test_names() -> None:
    """They are those that are described, without a look at what the values are."""
    described = describe(Sample)

    assert names(Sample) == [one.name for one in described]
    assert secret_names(Sample) == [one.name for one in described if one.secret] == ["note", "api-token"]


@pytest.mark.parametrize(
    "name,text,value",
    [
        ("name", "a b", "a b"),
        ("name", "", ""),
        ("count", "-5", -5),
        ("ratio", "1e-3", 0.001),
        ("verbose", "yes", True),
        ("verbose", "ON", True),
        ("verbose", "true", True),
        ("verbose", "1", True),
        ("verbose", "no", False),
        ("verbose", "off", False),
        ("verbose", "False", False),
        ("verbose", "0", False),
        ("idle_timeout", "500ms", 0.5),
        ("idle_timeout", "2", 2.0),
        ("max_message", "1MiB", 1024 * 1024),
        ("tls_ca", "/etc/ca.pem", Path("/etc/ca.pem")),
        ("framing", "nul", NUL),
        ("mode", "very-safe", Mode.VERY_SAFE),
        ("mode", "2", Mode.TWO),
        ("topics", "a,b", ("a", "b")),
        ("topics", "a", ("a",)),
        ("topics", "", ()),
        ("ports", "1,20", (1, 20)),
        ("note", "n", "n"),
        ("api_token", "t", "t"),
    ],
)
def test_value_of_each_type(name: str, text: str, value: object) -> None:
    """Each type is read as people write it, and its field's name in kebab-case."""
    assert getattr(one(**{name: text}), name) == value


def test_nothing_is_given() -> None:
    """All have their defaults."""
    assert one() == Sample()


@pytest.mark.parametrize(
    "name,text,fault",
    [
        ("count", "many", "'many' is not a whole number"),
        ("count", "1.5", "'1.5' is not a whole number"),
        ("ratio", "half", "'half' is not a number"),
        ("ratio", "nan", "'nan' is not a number"),
        ("ratio", "inf", "'inf' is not a number"),
        ("verbose", "ja", "'ja' is none of yes, no, true, false, on, off, 1, 0"),
        ("idle_timeout", "soon", "'soon' is not a duration such as 500ms, 10s or 24h"),
        ("max_message", "", "'' is not a size in bytes such as 4096, 64KiB or 64MiB"),
        ("framing", "l5", "no framing 'l5'; there are: lines, nul, length4, octet-counting"),
        ("mode", "fats", "'fats' is none of fast, very-safe, 2; did you mean fast?"),
        ("ports", "1,x", "'x' is not a whole number"),
        ("tls_ca", "/etc/\0", r"'/etc/\x00' is no file: a path holds no zero byte (%00)"),
    ],
)  # fmt: skip
def test_value_that_cannot_be_read(name: str, text: str, fault: str) -> None:
    """The error says where it stands, what it is, and what would do."""
    assert refused(Sample, **{name: text}) == f"here: option {name.replace('_', '-')}: {fault}"


def test_unknown_option() -> None:
    """The error lists those that are known, and the nearest."""
    text = refused(Sample, idel_timeout="5s")

    assert text.startswith("here has no option idel-timeout; known: name, count, ratio, verbose, ")
    assert text.endswith("; did you mean idle-timeout?")


def test_no_options_at_all() -> None:
    """A transport without options says that it has none."""

    @dataclasses.dataclass(frozen=True)
    class Nothing:
        pass

    assert refused(Nothing, x="1") == "here has no option x; known: none"


def test_missing_option() -> None:
    """A field without a default has to be given; a factory is a default."""
    assert refused(Strict, limit="5") == "here needs the option topic"
    assert coerce(Strict, {"topic": "t"}, where="here").labels == {}


def test_class_refuses_the_values() -> None:
    """A ValueError of the class is the user's fault, and does not show secrets."""
    text = refused(Strict, topic="t", limit="0", password=MARK)

    assert text == "here: limit must be above 0, with '***', and not 0"


@dataclasses.dataclass(frozen=True)
class Secrets:
    password: int = 0
    pin: int = option(0, "hidden by declaration", secret=True)


@pytest.mark.parametrize("name", ["password", "pin"])
def test_secret_that_cannot_be_read(name: str) -> None:
    """Its value does not show in the error, nor in one that hangs on it."""
    assert refused(Secrets, **{name: MARK}) == (
        f"here: option {name}: its value, which is not shown, is not of the form number"
    )


def test_declared_secret_in_a_repr() -> None:
    """What was declared as secret does not show when somebody prints the options."""
    assert MARK not in repr(one(note=MARK))


@pytest.mark.parametrize("hint", [dict, set[str], int | str, tuple[int, str], tuple[int, int], os.PathLike])
def test_type_that_is_not_known(hint: Any) -> None:
    """This is a fault of the plugin, and not of what its user wrote."""
    kind = dataclasses.make_dataclass("Odd", [("odd", hint, None)], frozen=True)
    with pytest.raises(TypeError, match=r"options of type .* are not known"):
        coerce(kind, {"odd": "1"}, where="here")


def test_describe() -> None:
    """Name, type, default as it is written, help, and whether it is secret: in the order of the class."""
    described = describe(Sample)

    assert [(found.name, found.type, found.default, found.secret) for found in described] == [
        ("name", "text", "x", False),
        ("count", "number", "1", False),
        ("ratio", "number", "0.5", False),
        ("verbose", "yes|no", "no", False),
        ("idle-timeout", "duration", "", False),
        ("max-message", "size", "64KiB", False),
        ("tls-ca", "file", "", False),
        ("framing", "lines|nul|length4|octet-counting", "lines", False),
        ("mode", "fast|very-safe|2", "fast", False),
        ("topics", "text[,text...]", "", False),
        ("ports", "number[,number...]", "1,2", False),
        ("note", "text", "", True),
        ("api-token", "text", "", True),
    ]
    assert described[0] == Option("name", "text", "x", "a text", False)


def test_described_defaults_can_be_written() -> None:
    """What is shown as default, written into a URL, means the default."""
    query = {found.name: found.default for found in describe(Sample) if found.default}

    assert coerce(Sample, query, where="here") == Sample()


def test_default_of_a_factory_is_described() -> None:
    """What a factory makes is shown like any other default, and a secret one is not."""
    kind = dataclasses.make_dataclass(
        "Made",
        [
            ("topics", tuple[str, ...], dataclasses.field(default_factory=lambda: ("a", "b"))),
            ("password", str, dataclasses.field(default=MARK)),
        ],
        frozen=True,
    )

    assert [found.default for found in describe(kind)] == ["a,b", "***"]


# -- delivery options ------------------------------------------------------------------------------


def policy(default: DeliveryPolicy, **query: str) -> DeliveryPolicy:
    return delivery_policy(
        {name.replace("_", "-"): text for name, text in query.items()}, default, where="here"
    )


def test_no_delivery_options() -> None:
    """The default stays."""
    default = DeliveryPolicy.relay()

    assert policy(default) is default


def test_all_delivery_options() -> None:
    """Each lands in its field."""
    made = policy(
        DeliveryPolicy.direct(),
        buffer="1MiB",
        overflow="drop-newest",
        ack="kernel",
        deadline="1h",
        retry_attempts="5",
        retry_backoff="1s",
        retry_max_backoff="2m",
        retry_stable="3s",
        spool_quota="2GiB",
        dead_letters="letters",
        role="best-effort",
    )

    assert made == DeliveryPolicy(
        buffer=1024 * 1024,
        overflow=Overflow.DROP_NEWEST,
        ack=Ack.KERNEL,
        deadline=3600,
        retry=Retry(attempts=5, backoff=1, max_backoff=120, stable=3),
        spool_quota=2 * 1024**3,
        dead_letters="letters",
        role=Role.BEST_EFFORT,
    )
    assert len(delivery_options()) == 11
    assert {option.name for option in delivery_options()} == DELIVERY_NAMES


def test_no_deadline() -> None:
    """What waits may wait for ever, and a policy that says so is written as it is read."""
    made = policy(DeliveryPolicy.relay(), deadline="unlimited")

    assert made.deadline == math.inf
    assert delivery_defaults(made)["deadline"] == "unlimited"


@pytest.mark.parametrize("named", [DeliveryPolicy.direct(), DeliveryPolicy.relay()], ids=["direct", "relay"])
def test_defaults_in_words(named: DeliveryPolicy) -> None:
    """There are words for each option, and read as a URL they make the same policy."""
    words = delivery_defaults(named)

    assert list(words) == [option.name for option in delivery_options()]
    given = {name: text for name, text in words.items() if text not in ("", "timeout")}
    other = DeliveryPolicy.direct() if named.retry.holds else DeliveryPolicy.relay()
    if named.deadline is None:
        other = dataclasses.replace(other, deadline=None)
    assert delivery_policy(given, other, where="here") == named


def test_some_delivery_options() -> None:
    """What is not given stays as the default has it."""
    made = policy(DeliveryPolicy.direct(), retry_backoff="2s")

    assert made.retry == Retry(attempts=1, backoff=2)
    assert dataclasses.replace(made, retry=Retry(attempts=1)) == DeliveryPolicy.direct()


def test_no_dead_letters() -> None:
    """One producer can do without those that the others have. A folder of that name is ./none."""
    default = DeliveryPolicy(dead_letters="letters")

    assert policy(default, buffer="1MiB").dead_letters == "letters"
    assert policy(default, dead_letters="none").dead_letters is None
    assert policy(default, dead_letters="./none").dead_letters == "./none"


@pytest.mark.parametrize(
    "word,ack", [("best", None), ("written", Ack.WRITTEN), ("peer", Ack.PEER), ("app", Ack.APP)]
)
def test_level_of_acknowledgement(word: str, ack: Ack | None) -> None:
    """Every level has its word, and best is for the transport to choose."""
    assert policy(DeliveryPolicy.direct(), ack=word).ack is ack


def test_every_level_has_a_word() -> None:
    """The words of the option are those of the ladder."""
    (described,) = [found for found in delivery_options() if found.name == "ack"]

    assert described.type == "|".join(["best", *[level.label for level in Ack]])


def test_unlimited_attempts() -> None:
    """What the direct policy limits to one can be given back its freedom."""
    assert policy(DeliveryPolicy.direct(), retry_attempts="unlimited").retry.attempts is None


@pytest.mark.parametrize(
    "query,fault",
    [
        (
            {"deadline": "never"},
            "option deadline: 'never' is not a duration such as 500ms, 10s or 24h, or unlimited",
        ),
        ({"retry_attempts": "0"}, "option retry-attempts: '0' is not a number from 1 on, or unlimited"),
        ({"retry_attempts": "x"}, "option retry-attempts: 'x' is not a whole number"),
        ({"retry_backoff": "31s"}, "retry-backoff must be above 0 and not above retry-max-backoff"),
        ({"deadline": "0"}, "deadline must be above 0 seconds"),
        ({"overflow": "drop"}, "option overflow: 'drop' is none of reject, block, drop-oldest, drop-newest"),
    ],
)
def test_delivery_options_that_cannot_be(query: dict[str, str], fault: str) -> None:
    """The error says which, and what would do."""
    with pytest.raises(InvalidOption) as raised:
        policy(DeliveryPolicy.relay(), **query)

    assert str(raised.value) == f"here: {fault}"

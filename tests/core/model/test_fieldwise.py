"""Values that are compared, hashed and shown by their fields, as dataclass itself would do it."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass

from producer_pool.model.fieldwise import Fieldwise


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Value(Fieldwise):
    name: str
    count: int = 0
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Compiled:
    name: str
    count: int = 0
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@dataclass(frozen=True, eq=False, repr=False)
class Narrow(Fieldwise):
    size: int = 1


@dataclass(frozen=True)
class Wide(Narrow):
    more: int = 2


def test_compared_by_fields() -> None:
    """Those that are compared have to be equal, and the class the same."""
    assert Value("a", 1, note="x") == Value("a", 1, note="y")
    assert Value("a", 1) != Value("a", 2)
    assert Value("a", secret="x") != Value("a")
    assert Value("a") != ("a", 0, "", "")
    assert Narrow() != Wide()


def test_hashed_by_fields() -> None:
    """Equal values are one key, with the hash that dataclass gives them."""
    assert len({Value("a", note="x"), Value("a", note="y"), Value("b")}) == 2
    assert hash(Value("a", 1, "s", "n")) == hash(Compiled("a", 1, "s", "n"))


def test_shown_as_dataclass_does() -> None:
    """The same text, without what is not to be shown."""
    shown = repr(Value("a", 1, secret="hunter2", note="x"))

    assert shown == "Value(name='a', count=1, note='x')"
    assert shown == repr(Compiled("a", 1, "hunter2", "x")).replace("Compiled", "Value")


def test_dataclass_that_inherits_from_it() -> None:
    """One that leaves nothing to it has all fields nevertheless, and has its own methods."""
    assert Wide(size=3) == Wide(3, 2)
    assert repr(Wide()) == "Wide(size=1, more=2)"


def test_control_without_it_they_are_compared_by_identity() -> None:
    """Dataclass does what it is told: the base is what compares."""
    bare = make_dataclass("Bare", ["name"], frozen=True, eq=False)

    assert bare("a") != bare("a")

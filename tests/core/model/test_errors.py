"""The tree of errors: its drawing, its texts, and what each can be caught as."""

import inspect
import re

import pytest

from producer_pool.model import errors
from producer_pool.model.errors import (
    ConfigurationError,
    DuplicateProducer,
    ForkedPool,
    ListenError,
    MessageTooLarge,
    PluginError,
    PluginLoadError,
    ProducerPoolError,
    SchemeConflict,
    UnknownProducer,
    UnknownScheme,
    WrongThread,
)


def test_tree_is_drawn_as_it_is() -> None:
    """The drawing at the top of the module has every class, below its base, and no other."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        match = re.match(r"(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(\s{2}|$)", line)
        if match and match["indent"]:
            depth = len(match["indent"]) // 4 - 1
            above[depth:] = [match["name"]]
            drawn[match["name"]] = above[depth - 1] if depth else "Exception"

    classes = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}
    assert drawn == {
        name: kind.__bases__[0].__name__
        for name, kind in classes.items()
        if issubclass(kind, ProducerPoolError)
    }
    assert sorted(drawn) == sorted(errors.__all__)


@pytest.mark.parametrize(
    "error,text",
    [
        (
            DuplicateProducer("a", ["a", "b"]),
            "producer 'a' is in the pool already; known: a, b; "
            "remove_producer() it first or choose another id",
        ),
        (
            UnknownProducer(["x", "y"], ["a", "b"], sending=True),
            "no producer 'x', 'y' in the pool; known: a, b; nothing was sent",
        ),
        (
            UnknownProducer(["x"], []),
            "no producer 'x' in the pool; known: none",
        ),
        (
            ForkedPool(),
            "this pool was made before a fork and lives in the parent; make a new pool in the child",
        ),
        (
            MessageTooLarge(10),
            "message longer than 10 bytes; raise it with ?max-message=",
        ),
        (
            MessageTooLarge(10, "length4"),
            "message longer than 10 bytes; raise it with ?max-message=, "
            "or have the other side use framing=length4, too",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_text_of_an_error(error: Exception, text: str) -> None:
    """It says what to do."""
    assert str(error) == text


@pytest.mark.parametrize(
    "error,also",
    [
        (ConfigurationError("x"), ValueError),
        (DuplicateProducer("x", []), ValueError),
        (UnknownProducer(["x"], []), LookupError),
        (ListenError("x"), OSError),
        (WrongThread("x"), RuntimeError),
        (UnknownScheme("x", scheme="s"), PluginError),
        (SchemeConflict("x", scheme="s", distributions=["a"]), PluginError),
        (PluginLoadError("x", distribution="d"), PluginError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_kind_of_an_error(error: Exception, also: type[Exception]) -> None:
    """Each is an error of this package, and of the built-in kind that its readers know."""
    assert isinstance(error, ProducerPoolError)
    assert isinstance(error, also)

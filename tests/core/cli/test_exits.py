"""Exit codes."""

import pytest

from producer_pool import (
    ConfigurationError,
    InvalidEndpoint,
    ListenError,
    PluginLoadError,
    ProducerPoolError,
    SendError,
    StorageError,
    UnknownScheme,
)
from producer_pool.cli.exits import code_for, explained, start_code_for


@pytest.mark.parametrize(
    "error,code",
    [
        (ConfigurationError("x"), 78),
        (InvalidEndpoint("x"), 78),
        (UnknownScheme("x", scheme="x"), 78),
        (PluginLoadError("x", distribution="x"), 78),
        (ListenError("x"), 1),
        (SendError("x"), 1),
    ],
)
def test_code_tells_whose_fault_it_is(
    error: ProducerPoolError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What somebody wrote is 78, what the world does is 1; both are one line."""
    assert code_for(error) == code
    with pytest.raises(SystemExit) as end, explained():
        raise error

    assert end.value.code == code
    assert capsys.readouterr().err == "producer-pool: x\n"


@pytest.mark.parametrize(
    "error,code",
    [
        (StorageError("x"), 78),
        (StorageError("x", passing=True), 1),
        (ConfigurationError("x"), 78),
        (ListenError("x"), 1),
    ],
)
def test_code_tells_whether_to_start_again(error: ProducerPoolError, code: int) -> None:
    """A daemon that never starts before somebody changes something is not to be restarted for ever."""
    with pytest.raises(SystemExit) as end, explained(start_code_for):
        raise error

    assert end.value.code == code


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said in one line, and is no success."""
    with pytest.raises(SystemExit) as end, explained():
        raise KeyboardInterrupt

    assert end.value.code == 1
    assert capsys.readouterr().err == "producer-pool: interrupted\n"


def test_other_errors_are_not_explained_away() -> None:
    """A bug keeps its traceback."""
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError

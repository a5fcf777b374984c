"""Exit codes."""

import pytest

from producer_pool import (
    ConfigurationError,
    InvalidEndpoint,
    ListenError,
    PluginLoadError,
    ProducerPoolError,
    SendError,
    UnknownScheme,
)
from producer_pool.cli.exits import code_for, explained


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

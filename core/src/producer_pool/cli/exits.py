"""The exit codes, and how an error that is made for people becomes one line and one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from producer_pool.model.errors import ConfigurationError, PluginError, ProducerPoolError, StorageError

__all__ = [
    "CONFIGURATION",
    "DONE",
    "FAILED",
    "UNREACHABLE",
    "USAGE",
    "code_for",
    "complain",
    "explained",
    "leave",
    "start_code_for",
]

DONE: Final = 0
FAILED: Final = 1
"""Something failed or remained."""
USAGE: Final = 2
"""The command line cannot be understood. click exits with it."""
UNREACHABLE: Final = 69
"""A consumer cannot be reached. EX_UNAVAILABLE in sysexits.h."""
CONFIGURATION: Final = 78
"""What a person wrote cannot be used. EX_CONFIG in sysexits.h."""


def code_for(error: ProducerPoolError) -> int:
    """Return the exit code for *error*: is it about what somebody wrote, or about the world?"""
    return CONFIGURATION if isinstance(error, ConfigurationError | PluginError) else FAILED


def start_code_for(error: ProducerPoolError) -> int:
    """Return the same for a daemon that does not start: 78 if it never will until somebody acts."""
    if isinstance(error, StorageError) and not error.passing:
        return CONFIGURATION
    return code_for(error)


def complain(*texts: object) -> None:
    """Write each text as one line to stderr."""
    for text in texts:
        print(f"producer-pool: {text}", file=sys.stderr, flush=True)


def leave(code: int, texts: Iterable[object]) -> NoReturn:
    """Complain of *texts* and exit with *code*."""
    complain(*texts)
    sys.exit(code)


@contextmanager
def explained(code: Callable[[ProducerPoolError], int] = code_for) -> Iterator[None]:
    """
    End the process with one line and the right code where the body raises an error made for people.

    Somebody who interrupts it is told so in the same way, and not with click's "Aborted!".
    """
    try:
        yield
    except ProducerPoolError as error:
        leave(code(error), [error])
    except KeyboardInterrupt:
        leave(FAILED, ["interrupted"])

"""What a program passes where seconds, bytes or counts are wanted: numbers, and no text with a unit."""

from __future__ import annotations

from producer_pool.model.errors import ConfigurationError, UsageError

__all__ = ["check_numbers", "check_seconds"]


def check_seconds(name: str, seconds: object) -> None:
    """
    See that the argument *name* of a call is a number of seconds, or None. Below 0 is no time at all.

    Raises:
        UsageError: it is something else; the text says what to write.
    """
    # nan is a number, and no time: every comparison with it says no.
    if not (seconds is None or (isinstance(seconds, int | float) and seconds == seconds)):
        raise UsageError(
            f"{name}= is a number of seconds, such as 5 or 0.5, not {seconds!r}; units go with URLs"
        )


def check_numbers(**values: object) -> None:
    """
    See that *values*, by their names, are numbers.

    Raises:
        ConfigurationError: one is none, as it would be written in a URL perhaps.
    """
    for name, value in values.items():
        if not isinstance(value, int | float):
            raise ConfigurationError(
                f"{name} is a number here, such as bytes or seconds, not {value!r}; units go with URLs"
            )

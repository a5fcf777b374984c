"""Policies: what is refused, and the arithmetic of the backoff."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import (
    DeliveryPolicy,
    Limits,
    Overflow,
    Retry,
    Role,
    Spool,
    checked_limits,
    checked_policy,
    checked_spool,
)

seconds = st.floats(0.001, 1000)
retries = st.builds(
    lambda backoff, times: Retry(backoff=backoff, max_backoff=backoff * times), seconds, st.floats(1, 1e6)
)


def test_no_deadline() -> None:
    """Infinity is a time."""
    assert DeliveryPolicy(deadline=math.inf).deadline == math.inf


def test_two_named_policies() -> None:
    """direct() answers now; relay() keeps messages for a day, and drops the oldest when it is full."""
    direct, relay = DeliveryPolicy.direct(), DeliveryPolicy.relay()

    assert (direct.overflow, direct.ack, direct.deadline) == (Overflow.REJECT, Ack.WRITTEN, None)
    assert (direct.retry.attempts, direct.retry.holds) == (1, False)
    assert (relay.overflow, relay.ack, relay.deadline) == (Overflow.DROP_OLDEST, None, 86400)
    assert (relay.retry.attempts, relay.retry.holds) == (None, True)


def test_defaults() -> None:
    """The bounds that the documentation states."""
    assert DeliveryPolicy().buffer == 64 * 2**20
    assert (Limits().buffer, Limits().drain, Limits().watchdog) == (256 * 2**20, 10, math.inf)
    assert (Retry().backoff, Retry().max_backoff, Retry().stable) == (0.1, 30, 10)


@given(retries, st.integers(-1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delay_stays_below_its_ceiling(retry: Retry, failures: int, draw: float) -> None:
    """A random time from 0 to the ceiling, which is never above the longest backoff."""
    ceiling = retry.ceiling(failures)

    assert 0 <= retry.delay(failures, draw) <= ceiling <= retry.max_backoff


@given(retries, st.integers(1, 100))
def test_ceiling_doubles(retry: Retry, failures: int) -> None:
    """Each failure in a row doubles it, up to the longest backoff."""
    assert retry.ceiling(1) == retry.backoff
    assert retry.ceiling(failures + 1) == min(2 * retry.ceiling(failures), retry.max_backoff)


@given(retries, st.integers(1, 100))
def test_delay_uses_the_whole_range(retry: Retry, failures: int) -> None:
    """Full jitter: with the smallest draw there is no wait, with the largest almost the whole ceiling."""
    assert retry.delay(failures, 0.0) == 0
    assert math.isclose(retry.delay(failures, 1 - 1e-12), retry.ceiling(failures), rel_tol=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 0}, {"attempts": -1}, {"backoff": 0}, {"backoff": -1}, {"backoff": math.nan},
        {"backoff": 31}, {"max_backoff": 0.01}, {"max_backoff": math.nan},
        {"stable": -1}, {"stable": math.nan},
    ],
)  # fmt: skip
def test_retry_that_cannot_be(arguments: dict[str, Any]) -> None:
    """Numbers that no schedule can be made from are refused."""
    with pytest.raises(
        ConfigurationError, match=f"^retry-{next(iter(arguments)).split('_')[0]}|^retry-backoff"
    ):
        Retry(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"buffer": 0}, {"deadline": 0}, {"deadline": -1}, {"deadline": math.nan}],
)
def test_policy_that_cannot_be(arguments: dict[str, Any]) -> None:
    """A policy under which nothing could be delivered is refused."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(arguments))} must be"):
        DeliveryPolicy(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"buffer": 0}, {"buffer": math.nan}, {"drain": -1}, {"drain": math.nan}]
)
def test_limits_that_cannot_be(arguments: dict[str, Any]) -> None:
    """The same for a pool."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(arguments))} must"):
        Limits(**arguments)


@given(retries)
def test_policies_are_values(retry: Retry) -> None:
    """Equal if their numbers are."""
    assume(retry != Retry())

    assert DeliveryPolicy(retry=retry) == DeliveryPolicy(retry=retry) != DeliveryPolicy()


@pytest.mark.parametrize(
    "kind,wrong,says",
    [
        (DeliveryPolicy, {"overflow": "block"}, "such as Overflow.BLOCK, not 'block'"),
        (DeliveryPolicy, {"ack": "kernel"}, "such as Ack.KERNEL, or None, not 'kernel'"),
        (DeliveryPolicy, {"retry": 5}, r"such as Retry\(attempts=5\), not 5"),
        (DeliveryPolicy, {"buffer": "64MiB"}, "buffer is a number here.* units go with URLs"),
        (DeliveryPolicy, {"buffer": None}, "buffer is a number here"),
        (DeliveryPolicy, {"deadline": "1h"}, "deadline is a number here"),
        (Limits, {"buffer": "1GiB"}, "buffer is a number here"),
        (Limits, {"drain": "10s"}, "drain is a number here, such as bytes or seconds, not '10s'; units"),
        (Retry, {"attempts": "unlimited"}, "attempts is a whole number, or None for no limit, not 'unl"),
        (Retry, {"backoff": "1s"}, "backoff is a number here"),
        (Retry, {"max_backoff": "1m"}, "max_backoff is a number here"),
        (Retry, {"stable": None}, "stable is a number here"),
    ],
)
def test_words_in_the_place_of_values(kind: type, wrong: dict[str, Any], says: str) -> None:
    """What would be written so in a URL is refused, with what to write here."""
    with pytest.raises(ConfigurationError, match=says):
        kind(**wrong)


@pytest.mark.parametrize("wrong", ["relay", DeliveryPolicy.relay, Limits()])
def test_no_policy(wrong: object) -> None:
    """The name of a policy, or what makes one, is none."""
    with pytest.raises(ConfigurationError, match=r"such as DeliveryPolicy.relay\(\), not "):
        checked_policy(wrong)


def test_no_limits() -> None:
    """The same for the bounds of a pool."""
    with pytest.raises(ConfigurationError, match=r"such as Limits\(drain=10\), not 10"):
        checked_limits(10)


@pytest.mark.parametrize(
    "wrong,fault",
    [
        ({"path": ""}, "the path of a spool is that of a folder, not ''"),
        ({"path": 7}, "the path of a spool is that of a folder, not 7"),
        ({"sync": -1}, "spool-sync must not be negative"),
        ({"sync": "50ms"}, "sync is a number here, such as bytes or seconds, not '50ms'; units go with URLs"),
        ({"size": 4096}, "spool-size must be at least 1MiB"),
        ({"age": 0}, "spool-age must be above 0 seconds"),
    ],
)
def test_spools_that_cannot_be(wrong: dict[str, Any], fault: str) -> None:
    """The error says which value, and what would do."""
    with pytest.raises(ConfigurationError) as raised:
        Spool(**{"path": "spool", **wrong})

    assert str(raised.value) == fault


def test_what_is_taken_for_a_spool() -> None:
    """One, its path as a text or a Path, or none; anything else is named."""
    assert checked_spool(None) is None
    assert checked_spool("here") == Spool("here")
    assert checked_spool(Path("here")) == Spool(Path("here"))
    assert checked_spool(Spool("here", sync=0.05)) == Spool("here", sync=0.05)
    with pytest.raises(ConfigurationError, match=r"spool is the path of a folder, or a Spool"):
        checked_spool(7)


def test_dead_letters_that_cannot_be() -> None:
    """An empty text would be the folder of the process."""
    with pytest.raises(ConfigurationError, match="dead-letters is the path of a folder or a URL"):
        DeliveryPolicy(dead_letters="")


def test_role_by_itself() -> None:
    """Who says nothing needs every message."""
    assert DeliveryPolicy().role is DeliveryPolicy.relay().role is Role.REQUIRED
    with pytest.raises(ConfigurationError, match=r"role is a Role, such as Role\.SHADOW, not 'shadow'"):
        DeliveryPolicy(role="shadow")  # type: ignore[arg-type]


def test_shadow_that_would_slow_its_source() -> None:
    """It is refused, and the text says why and what else there is; others may do so."""
    with pytest.raises(ConfigurationError, match=r"overflow=block .* slow its source.* use overflow=drop-"):
        DeliveryPolicy(role=Role.SHADOW, overflow=Overflow.BLOCK)

    assert DeliveryPolicy(role=Role.BEST_EFFORT, overflow=Overflow.BLOCK).role is Role.BEST_EFFORT

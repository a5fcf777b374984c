"""Quotas in a spool that is not there, or is smaller."""

import pytest

from producer_pool.cli.quotas import quotas
from producer_pool.discovery.config import Settings


def settings(url: str, **flags: str) -> Settings:
    """Return what a command line with one consumer comes to."""
    return Settings.read({}, to=[f"a={url}"], flags={name.replace("_", "-"): flags[name] for name in flags})


def test_quota_without_a_spool() -> None:
    """It is refused as other settings of a spool are."""
    found = list(quotas(settings("null:?spool-quota=1GiB")))

    assert found == ["--to: a: spool-quota= needs a spool: add --spool DIR, or leave it out"]


def test_quota_above_the_size(caplog: pytest.LogCaptureFixture) -> None:
    """It is said which of them counts."""
    found = list(quotas(settings("null:?spool-quota=2GiB", spool="s", spool_size="1GiB")))

    assert found == []
    assert caplog.messages == [
        "a: spool-quota=2GiB is more than the whole spool may take: spool-size=1GiB counts"
    ]


@pytest.mark.parametrize("url", ["null:?spool-quota=1GiB", "null:", "null:?spool-quota=lots"])
def test_nothing_to_say(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What fits, what was not asked for, and what is told of elsewhere."""
    assert list(quotas(settings(url, spool="s", spool_size="1GiB"))) == []
    assert caplog.messages == []

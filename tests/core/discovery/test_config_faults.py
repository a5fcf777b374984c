"""All faults of a configuration at once."""

from pathlib import Path

import pytest

from producer_pool import ConfigurationError
from producer_pool.discovery.config import Settings

FILE = """
[pool]
buffer = "huge"
bufer = "1MiB"
listen = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"]

[producers.nowhere]
[producers.good]
url = "null:"

[other]
"""

ENVIRON = {
    "PRODUCER_A": "nonsense",
    "PRODUCER_B": "null:",
    "PRODUCER_B_FILE": "/nowhere",
    "PRODUCER_POOL_DRAIN": "soon",
    "PRODUCER_POOL_NONE": "x",
    "PRODUCER_POOL_PLUGIN_TCP": "",
}


def test_all_faults_are_collected(tmp_path: Path) -> None:
    """Each fault of each source is in the list, and what is right is in the settings."""
    file = tmp_path / "pool.toml"
    file.write_text(FILE)
    faults: list[ConfigurationError] = []

    settings = Settings.read(
        ENVIRON, to=["no url", "x=", "null:"], flags={"config": str(file), "json": "yes"}, faults=faults
    )

    texts = [str(fault) for fault in faults]
    for part in (
        "PRODUCER_A is no URL",
        "PRODUCER_B and PRODUCER_B_FILE are both set",
        "PRODUCER_POOL_DRAIN: 'soon'",
        "PRODUCER_POOL_NONE is no setting",
        "PRODUCER_POOL_PLUGIN_TCP is empty",
        f"{file}: has no key other",
        f"{file}: [pool] has no key bufer",
        f"{file}: [pool] buffer: 'huge'",
        f"{file}: [pool] listen names tcp://127.0.0.1:1 twice",
        f"{file}: [producers.nowhere] needs either url or url-file",
        "--to is no URL",
        "--to x= is empty",
    ):
        assert [text for text in texts if part in text], part
    assert len(texts) == 12
    assert {producer.id for producer in settings.producers} == {"b", "good", "consumer2"}
    assert settings.json
    assert [listener.url for listener in settings.listeners] == ["tcp://127.0.0.1:1"]


def test_without_a_list_the_first_fault_is_raised() -> None:
    """Who wants one error gets one."""
    with pytest.raises(ConfigurationError, match="PRODUCER_POOL_PLUGIN_TCP is empty"):
        Settings.read(ENVIRON)

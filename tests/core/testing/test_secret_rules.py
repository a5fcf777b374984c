"""Rules about secrets, and a transport that has some and keeps them."""

from __future__ import annotations

import logging
import sys

import pytest

from producer_pool.testing.rules import RULES
from producer_pool.testing.running import Result, run_rule
from support.zoo.animal import Animal, Plugin, transport
from support.zoo.secrets import SecretClient, TokenOptions

KEEPS = Animal("secretive", "nothing", "", "", Plugin(transport(SecretClient, options=TokenOptions)))


def test_transport_that_keeps_its_secrets() -> None:
    """A password, a user and a token, none of which shows: then the rule is kept."""
    verdict = run_rule(KEEPS.subject(), RULES["shows-no-secret"])

    assert verdict.result is Result.KEPT, verdict.details


def test_logging_and_streams_are_as_before() -> None:
    """The rule looks at what the whole process logs and prints, and leaves nothing of that behind."""
    root = logging.getLogger()
    before = root.level, root.handlers[:], sys.stdout, sys.stderr

    run_rule(KEEPS.subject(), RULES["shows-no-secret"])

    assert (root.level, root.handlers, sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("where", ["user:secret@", "secret@"])
def test_transport_without_secrets_is_asked_for_them(where: str) -> None:
    """A URL with a password is an error of the healthy one, and the rule takes that for an answer."""
    subject = Animal("plain", "nothing", "", "", Plugin(transport())).subject()

    with pytest.raises(ValueError, match="no users and passwords"):
        subject.factory.create(f"zoo://{where}127.0.0.1:1")
    assert run_rule(subject, RULES["shows-no-secret"]).result is Result.KEPT

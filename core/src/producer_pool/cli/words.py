"""The words of a command line that is as plain as most are, read without click."""
# Rule: whatever is not said in the plainest way is left to click, which says it better, or what is wrong.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producer_pool.discovery.layer import SETTINGS

__all__ = ["plain_options"]


def plain_options(words: Sequence[str]) -> dict[str, Any] | None:
    """
    Return the options in *words*, as click passes them to ``run``; None: click is to read them.

    A daemon has no other use for click, which takes a tenth of its start and a megabyte.
    """
    settings = {setting.flag: setting for setting in SETTINGS.values()}
    several = {"--to": "to"} | {flag: setting.key for flag, setting in settings.items() if setting.several}
    given: dict[str, Any] = {setting.key: None for setting in settings.values()}
    given |= dict.fromkeys(several.values(), ())
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in settings and settings[flag].is_switch:
            if equals:
                return None
            value = "yes"
        elif not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        if flag in several:
            given[several[flag]] += (value,)
        elif flag in settings:
            given[settings[flag].key] = value
        else:
            return None
    return given

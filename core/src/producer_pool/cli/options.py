"""The options that say what a pool consists of: one for each setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

import click

from producer_pool.discovery.layer import SETTINGS

__all__ = ["PoolCommand", "pool_options"]

F = TypeVar("F", bound=Callable[..., Any])


class PoolCommand(click.Command):
    """A command whose consumers are options: who writes a URL alone is told where it goes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            word = ctx.args[0]
            # Not shown if it is a URL, which may hold a password.
            said = "a URL" if ":" in word else repr(word)
            raise click.UsageError(f"{said} without an option; name a consumer with --to URL", ctx)
        return ctx.args


def pool_options(*, without: Sequence[str] = ()) -> Callable[[F], F]:
    """Return a decorator that adds ``--to`` and an option for each setting, but for those in *without*."""
    options = [
        click.option(
            "--to",
            multiple=True,
            metavar="[ID=]URL",
            help="A consumer to forward to. May be repeated.  [env: PRODUCER_<ID>=URL]",
        )
    ]
    for setting in SETTINGS.values():
        if setting.name in without:
            continue
        kind: dict[str, Any] = {"multiple": setting.several, "metavar": setting.value}
        if setting.is_switch:
            kind = {"is_flag": True, "flag_value": "yes", "default": None}
        repeated = " May be repeated." if setting.several else ""
        text = f"{setting.help[:1].upper()}{setting.help[1:]}.{repeated}"
        default = f"; default: {setting.default}"
        options.append(
            click.option(
                setting.flag,
                setting.key,
                type=None if "is_flag" in kind else str,
                help=f"{text}  [env: {setting.variable}{default}]",
                **kind,
            )
        )
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)

"""The command ``producer-pool``: finds its commands when they are asked for."""
# Rule: `--version` imports no asyncio, no plugin and no rich, and a command only what that command needs.

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from producer_pool import __version__
from producer_pool.cli.exits import complain, explained
from producer_pool.cli.memory import collect_from_now_on

__all__ = ["Commands", "Group", "cli"]

COMMANDS: Final = ("run", "send", "sink", "check", "bench", "spool", "dead-letters", "plugins")
"""Each is an object of its name, with _ for -, in the module of that name."""


class Group(click.Group):
    """Commands, one of which is to be named: who names another one is told which there are."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from producer_pool.model.text import suggestion

            known = self.list_commands(ctx)
            there = f"; there are: {', '.join(known)}"
            raise click.UsageError(f"no such command: {name}{there}{suggestion(name, known)}", ctx)
        return super().resolve_command(ctx, args)


class Commands(Group):
    """The commands of core, one module each, and behind them those that plugins add."""

    _asked = False

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        # Here and below: outside, click says "Aborted!" of an interrupt before a command takes over.
        with explained():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with explained():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = super().resolve_command(ctx, args)
        collect_from_now_on()
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins()
        return [*COMMANDS, *sorted(self.commands.keys() - COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            name = cmd_name.replace("-", "_")
            command: click.Command = getattr(import_module(f"producer_pool.cli.{name}"), name)
            return command
        self._ask_plugins()
        return self.commands.get(cmd_name)

    def _ask_plugins(self) -> None:
        """Have the wiring plugins add their commands, once. One that fails is logged and left out."""
        if not self._asked:
            self._asked = True
            from producer_pool.discovery.registry import default_registry
            from producer_pool.model.errors import ProducerPoolError

            try:
                default_registry().wiring().commands(self)
            except ProducerPoolError as error:
                complain(error)  # Help must not fail because of it.


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Try it, in three terminals:
  producer-pool sink tcp://127.0.0.1:9000
  producer-pool run --to tcp://127.0.0.1:9000
  echo hello | producer-pool send tcp://127.0.0.1:9100

\b
Exit codes: 0 done, 1 something failed or remained, 2 usage, 69 unreachable, 78 bad configuration.""",
)
@click.version_option(__version__, prog_name="producer-pool", message="%(prog)s %(version)s")
def cli() -> None:
    """
    Forward every message to many consumers, and know what became of it at each.

    Messages are data, on stdout; all else is talk, on stderr.
    """

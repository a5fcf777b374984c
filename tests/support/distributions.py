"""Installed distributions as tests need them: two text files of metadata, and modules beside them."""

import importlib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Site", "transports_module"]


class Site:
    """A folder on sys.path into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        version: str = "1.0",
        *,
        transports: Mapping[str, str] | None = None,
        plugins: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> Path:
        """Install a distribution with entry points and modules by name; return its metadata folder."""
        metadata = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText\n"
        )
        sections = {"producer_pool.transports": transports, "producer_pool.plugins": plugins}
        text = "[console_scripts]\nsomething = some.module:main\n"
        for group, entries in sections.items():
            text += f"\n[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in (entries or {}).items())
        (metadata / "entry_points.txt").write_text(text)
        for module, source in (modules or {}).items():
            (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        # What is cached of a folder is taken for good while its time of change is the same, which is coarse.
        importlib.invalidate_caches()
        return metadata

    def forget_modules(self) -> None:
        """Make Python forget the modules that were imported from here."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]


def transports_module(*schemes: str, more: str = "") -> str:
    """Return the source of a plugin that serves *schemes*; its clients know who made them."""
    return f"""
from producer_pool.plugin import Client, Transport, hookimpl

class FakeClient(Client):
    protocol_name = __name__

    def __init__(self, endpoint, options):
        self.address, self.endpoint, self.options = str(endpoint), endpoint, options

    async def send(self, message):
        pass

@hookimpl
def producer_pool_transports():
    yield Transport(schemes={schemes!r}, client=FakeClient)
""" + textwrap.dedent(more)

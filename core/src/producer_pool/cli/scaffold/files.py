"""The files of a new plugin: templates of this package, filled in and written where nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from producer_pool.cli.scaffold.names import Names
from producer_pool.model.errors import ConfigurationError

__all__ = ["FILES", "render", "write"]

FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    ".gitignore": "gitignore",
    ".github/workflows/test.yml": "workflow.yml",
    "src/${package}/__init__.py": "package.py",
    "src/${package}/transport.py": "transport.py",
    "src/${package}/py.typed": "py.typed",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/test_${module}.py": "test_own.py",
}
"""Each file of a plugin, and the template that it is made from."""


def render(names: Names, version: str) -> dict[str, str]:
    """Return the text of each file, by its path in the folder of the plugin; *version* is that of core."""
    # They end in .in: what looks for Python, pyproject.toml or .gitignore in this tree must not find them.
    templates = files("producer_pool.cli.scaffold") / "templates"
    words = names.filled_in(version)
    return {
        Template(path).substitute(words): Template((templates / f"{name}.in").read_text("utf-8")).substitute(
            words
        )
        for path, name in FILES.items()
    }


def write(texts: Mapping[str, str], folder: Path) -> None:
    """
    Write *texts* into *folder*, which is made.

    Raises:
        ConfigurationError: there is something in it already. Nothing is overwritten.
        OSError: it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder} is not empty, and nothing is overwritten; remove it, or use --directory"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; remove it, or use --directory")
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)

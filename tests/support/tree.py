"""The source tree as tests see it: distributions, packages, modules and what they import."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["CORE", "PLUGINS", "ROOT", "Import", "Module", "distributions", "modules", "speedups"]

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core"
PLUGINS = ROOT / "plugins"


@dataclass(frozen=True)
class Import:
    """One name that a module imports, as the dotted path of the module (or name) that it asks for."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One Python file of a source folder."""

    path: Path
    name: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), self.path)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    def imports(self) -> Iterator[Import]:
        """Yield every import, inside functions too; `from a import b` asks for `a.b`."""
        yield from self._imports(self.tree, typing_only=False)

    def declared(self) -> list[str] | None:
        """Return the names in `__all__`, or None where there is none that can be read without importing."""
        for node in self.tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                    | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
                ):
                    return list(ast.literal_eval(value))
        return None

    def _imports(self, node: ast.AST, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) in (
                "TYPE_CHECKING",
                "typing.TYPE_CHECKING",
            ):
                for inner in child.body:
                    yield from self._imports(ast.Module([inner], []), typing_only=True)
                for inner in child.orelse:
                    yield from self._imports(ast.Module([inner], []), typing_only)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, typing_only)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    yield Import(f"{self._source(child)}.{alias.name}", child.lineno, typing_only)
            else:
                yield from self._imports(child, typing_only)

    def _source(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*kept, *([node.module] if node.module else [])])


def distributions() -> list[Path]:
    """Return the folder of each distribution, core first."""
    return [CORE, *sorted(path.parent for path in PLUGINS.glob("*/pyproject.toml"))]


def speedups() -> list[Path]:
    """Return the folders of what plugins have compiled: each a distribution of its own, and optional."""
    return sorted(path.parent for path in PLUGINS.glob("*/speedups/pyproject.toml"))


def modules(source: Path) -> list[Module]:
    """Return the modules below *source*, a folder that goes on sys.path."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found.append(Module(path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return found

"""What the product can say in its log, read from its source: texts with an ellipsis for each value."""

import ast
import re
from collections.abc import Iterator

from support.tree import Module, distributions, modules

__all__ = ["plain", "said", "texts"]

LOGGERS = {"log", "_log"}
LEVELS = {"warning", "error", "exception", "critical", "log"}
"""log() has its level as the first argument."""
SAYING = {"_say", "_evict", "_complain"}
"""Methods which write their second argument, rate-limited."""
UNSEEN = (".testing", ".cli.scaffold", ".cli.demo")
"""Parts of core that no operator runs."""


def said() -> dict[str, str]:
    """Return each text that may be logged as a warning or an error, with the module that says it."""
    return {
        text: module.name
        for source in (folder / "src" for folder in distributions())
        for module in modules(source)
        if not module.name.startswith(tuple(f"producer_pool{part}" for part in UNSEEN))
        for text in texts(module)
        if re.search(r"[a-z]{3}", plain(text))
    }


def plain(text: str) -> str:
    """Return a text without its values: what two texts have to share to be the same."""
    return " ".join(text.replace("…", " ").split()).strip(" :;,")


def texts(module: Module) -> Iterator[str]:
    """Yield what one module may log, whatever its level."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            if isinstance(owner, ast.Name) and owner.id in LOGGERS and name in LEVELS:
                yield from _spelled(node.args[1 if name == "log" else 0])
            elif name in SAYING and len(node.args) > 1:
                yield from _spelled(node.args[1])


def _spelled(node: ast.expr) -> Iterator[str]:
    """Yield what an expression says: one text, or one for each branch."""
    if isinstance(node, ast.IfExp):
        yield from _spelled(node.body)
        yield from _spelled(node.orelse)
    elif isinstance(node, ast.Constant):
        yield re.sub(r"%[-+0-9.,]*[a-z]", "…", str(node.value))
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from (left + right for left in _spelled(node.left) for right in _spelled(node.right))
    else:
        yield "…"

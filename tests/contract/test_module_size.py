"""Modules stay short."""

from statistics import median

from support.tree import ROOT, distributions, modules

MOST = 500
TYPICAL = 150
"""Near 100 is the aim; above this, most modules have begun to hold two ideas."""


def test_no_module_is_long() -> None:
    """Product, tests and examples: 500 lines are the cap."""
    found = [
        module for place in (*distributions(), ROOT / "tests", ROOT / "docs") for module in modules(place)
    ]

    assert [f"{module.path}: {module.lines}" for module in found if module.lines > MOST] == []


def test_most_modules_are_short() -> None:
    """The median of the product's modules, without the re-exporting ones, stays within half of the aim."""
    product = [module for place in distributions() for module in modules(place / "src")]

    assert median(module.lines for module in product if not module.is_package) <= TYPICAL

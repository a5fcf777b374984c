"""What dataclasses have in common, so that it is not compiled for each of them."""
# dataclass itself compiles these methods anew for each class, which takes a quarter of a millisecond, and a
# start needs two dozen classes. Those here are slower to call: no values are compared all the time.

from __future__ import annotations

from dataclasses import fields
from typing import Any

__all__ = ["Fieldwise", "MutableFieldwise"]


class MutableFieldwise:
    """A ``@dataclass(eq=False, repr=False)`` that is compared and shown by its fields, and not hashed."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _compared(self) == _compared(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        own: Any = self
        shown = [f"{field.name}={getattr(self, field.name)!r}" for field in fields(own) if field.repr]
        return f"{type(self).__qualname__}({', '.join(shown)})"


class Fieldwise(MutableFieldwise):
    """A ``@dataclass(frozen=True, eq=False, repr=False)`` that is hashed by its fields, too."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(_compared(self))


def _compared(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, field.name) for field in fields(value) if field.compare])

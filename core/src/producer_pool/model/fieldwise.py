"""What frozen values have in common, so that it is not compiled for each class of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

__all__ = ["Fieldwise"]


class Fieldwise:
    """
    A ``@dataclass(frozen=True, eq=False, repr=False)`` that is compared, hashed and shown by its fields.

    dataclass itself compiles these three anew for each class, which takes a quarter of a millisecond, and a
    start needs two dozen such classes. These are slower to call: no values are compared all the time.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __repr__(self) -> str:
        own: Any = self
        shown = [f"{field.name}={getattr(self, field.name)!r}" for field in fields(own) if field.repr]
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, field.name) for field in fields(value) if field.compare])

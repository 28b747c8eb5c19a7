"""Registry: maps names to factories, for things that are chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ptgc.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of factories.

    Args:
        noun: What is registered, for messages.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._factories: dict[str, Callable[[], T]] = {}

    def register(self, name: str, factory: Callable[[], T]) -> None:
        """Add a factory; it is only called, and may import its library, when requested."""
        assert name not in self._factories, f"{self._noun} '{name}' is registered twice"
        self._factories[name] = factory

    def create(self, name: str) -> T:
        """Call the factory of that name.

        Raises:
            UsageError: There is no such name.
        """
        if name not in self._factories:
            raise UsageError(f"There is no {self._noun} '{name}'; there are: {', '.join(self._factories)}.")
        return self._factories[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

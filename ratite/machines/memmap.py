"""Memory maps: where a board puts things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ratite.core.errors import InternalError


@dataclass(frozen=True, slots=True)
class Span:
    """Guest-physical addresses from `base` on; a `size` of None means that the configuration says
    how many.
    """

    base: int
    size: int | None

    def at(self, index: int) -> Span:
        """The `index`-th of equal spans that follow one another."""
        assert self.size is not None
        return Span(self.base + index * self.size, self.size)

    @property
    def pair(self) -> tuple[int, int]:
        """Base and size, for a span of fixed size."""
        assert self.size is not None
        return self.base, self.size


class MemMap:
    """Named spans. Overlap is refused when the map is defined."""

    def __init__(self, **spans: Span) -> None:
        self._spans = spans
        for (name, span), (other, following) in pairwise(self.spans()):
            if span.size is None or span.base + span.size > following.base:
                if span.size is not None or following.base < span.base:
                    raise InternalError(f"memory map: {name} overlaps {other}")

    def spans(self) -> Iterator[tuple[str, Span]]:
        """All of them, with their names, by address."""
        yield from sorted(self._spans.items(), key=lambda item: item[1].base)

    def __getattr__(self, name: str) -> Span:
        try:
            return self._spans[name]
        except KeyError:
            raise AttributeError(name) from None

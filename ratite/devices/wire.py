"""Wires: outputs of a device that are pure functions of its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, overload

Pin = Callable[[bool], None]
"""An input: called with the new level whenever it changes, with the machine lock held."""


class Input:
    """A numbered input of a device, as a `Pin` that can be listened to."""

    __slots__ = ("_set", "number", "observers")

    def __init__(self, number: int, set_level: Callable[[int, bool], None]) -> None:
        self.number = number
        self.observers: list[Callable[[int, bool], None]] = []
        self._set = set_level

    def __call__(self, level: bool) -> None:
        self._set(self.number, level)
        for observer in self.observers:
            observer(self.number, level)


class WireOutput:
    """One wire of one device."""

    __slots__ = ("_device", "_function", "_pins", "level", "name")

    def __init__(self, name: str, device: object, function: Callable[[Any], bool]) -> None:
        self.name = name
        self.level = False
        self._device = device
        self._function = function
        self._pins: list[Pin] = []

    def connect(self, pin: Pin) -> None:
        """Lead the wire to an input as well; it is told the level at once if that is high."""
        self._pins.append(pin)
        if self.level:
            pin(True)

    @property
    def connected(self) -> bool:
        """True if it leads anywhere."""
        return bool(self._pins)

    def update(self) -> None:
        """Evaluate the level anew and tell the inputs if it changed.

        Runs: per MMIO write.
        """
        level = self._function(self._device)
        if level is not self.level:
            self.level = level
            for pin in self._pins:
                pin(level)


class Wire:
    """Decorates the method that says whether the wire is high.

    The method looks at nothing but the device's own state. It is evaluated after every register
    write, reset and load; a timer or backend callback, or a read with side effects, calls
    `update_wires`.
    """

    def __init__(self, function: Callable[[Any], bool]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: object, owner: type) -> WireOutput: ...
    def __get__(self, device: object | None, owner: type) -> Self | WireOutput:
        # An instance holds its output under this name, so this is reached on the class only.
        assert device is None, f"wire '{self.name}' used before Device.__init__ ran"
        return self

"""Declared registers and state: what dispatch, reset and migration are derived from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, cast, overload

if TYPE_CHECKING:
    from ratite.devices.device import Device

T = TypeVar("T")
ReadHandler = TypeVar("ReadHandler", bound=Callable[[Any], int])
WriteHandler = TypeVar("WriteHandler", bound=Callable[[Any, int], None])


class Register:
    """A register at a byte offset, `size` bytes wide.

    `access` is "rw", "ro" or "wo" as the guest sees it. Guest writes change the bits in `mask` only
    (default: all); `reset` is the value at power-on. In an instance the name is a plain int that
    the device's own code reads and assigns freely; with an `on_read` handler it has no value of its
    own, and reading it calls the handler.
    """

    def __init__(
        self,
        offset: int,
        access: Literal["rw", "ro", "wo"] = "rw",
        *,
        mask: int | None = None,
        reset: int = 0,
        size: int = 4,
    ) -> None:
        self.offset = offset
        self.access = access
        self.size = size
        self.full = (1 << 8 * size) - 1
        self.mask = self.full if mask is None else mask
        self.reset = reset
        self.name = ""
        self._reads: Callable[[Any], int] | None = None
        self._writes: Callable[[Any, int], None] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: object, owner: type) -> int: ...
    def __get__(self, device: object | None, owner: type) -> Self | int:
        # Only reached where the instance holds no value under this name.
        if device is None:
            return self
        return self._reads(device) if self._reads is not None else self.reset

    if TYPE_CHECKING:
        # At run time assignment goes to the instance, which is faster than any descriptor.
        def __set__(self, device: object, value: int) -> None: ...

    @property
    def stored(self) -> bool:
        """True if an instance keeps a value under this name, which is migrated."""
        return self._reads is None and self.access != "wo"

    def on_read(self, handler: ReadHandler) -> ReadHandler:
        """Decorate the method that answers reads. If a read changes state that wires depend on, it
        calls `update_wires` itself.
        """
        self._reads = handler
        return handler

    def on_write(self, handler: WriteHandler) -> WriteHandler:
        """Decorate the method that is called after each guest write, with the bits that the guest
        may change.
        """
        self._writes = handler
        return handler

    def takes(self, value: object, device: object) -> bool:
        """Whether it could hold this."""
        return type(value) is int and 0 <= value <= self.full

    def reader(self, device: Device) -> Callable[[], int] | None:
        """What answers a guest's read of this register in `device`; None if it cannot be read."""
        if self.access == "wo":
            return None
        if self._reads is not None:
            return cast("Callable[[], int]", self._reads.__get__(device))
        values, name = device.__dict__, self.name

        def read() -> int:
            value: int = values[name]
            return value

        return read

    def writer(self, device: Device) -> Callable[[int], None] | None:
        """What takes a guest's write to this register in `device`; None if it cannot be written."""
        if self.access == "ro":
            return None
        mask, keep = self.mask, self.full & ~self.mask
        values, name = device.__dict__, self.name
        handler: Callable[[int], None] | None = None
        if self._writes is not None:
            handler = cast("Callable[[int], None]", self._writes.__get__(device))

        def store(value: int) -> None:
            values[name] = (values[name] & keep) | (value & mask)

        def store_and_call(value: int) -> None:
            values[name] = (values[name] & keep) | (value & mask)
            assert handler is not None
            handler(value & mask)

        def call(value: int) -> None:
            assert handler is not None
            handler(value & mask)

        if handler is None:
            return store if self.stored else _ignore
        return store_and_call if self.stored else call


def _ignore(value: int) -> None:
    """Take a write that has no effect."""


class State(Generic[T]):
    """A migrated attribute that no register shows: plain data (int, bool, str, bytes, and lists and
    dicts of them).

    It returns to its default at reset unless `kept`. A default that is changed in place, or depends
    on properties, is made by `factory`, which is given the device. `since` is the release that
    added it: state saved by an older one is loaded with the default. A list that has elements by
    default keeps its length; `element` is a sample of those of a list that is empty by default.
    """

    @overload
    def __init__(self, default: T, *, since: str = "", kept: bool = False) -> None: ...
    @overload
    def __init__(
        self,
        *,
        factory: Callable[[Any], T],
        element: object = None,
        since: str = "",
        kept: bool = False,
    ) -> None: ...
    def __init__(
        self,
        default: T | None = None,
        *,
        factory: Callable[[Any], T] | None = None,
        element: object = None,
        since: str = "",
        kept: bool = False,
    ) -> None:
        self.element = element
        self._default = default
        self._factory = factory
        self.since = since
        self.kept = kept
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Self: ...
    @overload
    def __get__(self, device: object, owner: type) -> T: ...
    def __get__(self, device: object | None, owner: type) -> Self | T:
        # Only reached where the instance holds no value yet.
        return self if device is None else self.default(device)

    if TYPE_CHECKING:

        def __set__(self, device: object, value: T) -> None: ...

    def default(self, device: object) -> T:
        """The power-on value for this device."""
        return cast(T, self._default) if self._factory is None else self._factory(device)

    def takes(self, value: object, device: object) -> bool:
        """Whether it could hold this."""
        sample = self.default(device)
        if isinstance(sample, list) and not sample:
            return isinstance(value, list) and all(_alike(item, self.element) for item in value)
        return _alike(value, sample)


def _alike(value: object, sample: object) -> bool:
    """Whether plain data has the shape of a sample."""
    if isinstance(sample, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(sample):
            return False
        return all(_alike(*pair) for pair in zip(value, sample, strict=True))
    if isinstance(sample, dict):
        if not isinstance(value, dict) or value.keys() != sample.keys():
            return False
        return all(_alike(value[key], item) for key, item in sample.items())
    kinds = (bool, int, str, bytes)
    return next((k for k in kinds if isinstance(sample, k)), None) is next(
        (k for k in kinds if isinstance(value, k)), type(value)
    )

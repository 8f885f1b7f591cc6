"""State that native code and Python share: one declaration, two views.

A subclass of `Struct` declares its fields in order; each gets a byte offset with natural alignment.
Python sees an instance as a view of host memory at an address; the native frontend turns the same
attribute accesses into loads and stores at those offsets.

    class Timer(Struct):
        deadline = Field(u64)
        history = Array(u32, 8)

    t = Timer.at(u64(address))
    t.deadline = u64(5)
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from ratite.native.types import Int, u64

T = TypeVar("T", bound=Int)
S = TypeVar("S", bound="Struct")

_CTYPES: dict[tuple[int, bool], Any] = {
    (8, False): ctypes.c_uint8,
    (16, False): ctypes.c_uint16,
    (32, False): ctypes.c_uint32,
    (64, False): ctypes.c_uint64,
    (8, True): ctypes.c_int8,
    (16, True): ctypes.c_int16,
    (32, True): ctypes.c_int32,
    (64, True): ctypes.c_int64,
}


def cell(kind: type[Int], address: int) -> Any:
    """The ctypes object of a scalar of `kind` at a host address; read and write its `.value`."""
    return _CTYPES[kind.WIDTH, kind.SIGNED].from_address(address)


class Field(Generic[T]):
    """A scalar member."""

    count: ClassVar[int] = 1

    def __init__(self, kind: type[T], *, doc: str = "") -> None:
        self.kind = kind
        self.__doc__ = doc
        self.offset = -1
        self.name = ""
        self.alignment = kind.WIDTH // 8
        self.size = self.alignment

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> Self: ...

    @overload
    def __get__(self, view: Struct, owner: type) -> T: ...

    def __get__(self, view: Struct | None, owner: type) -> Self | T:
        if view is None:
            return self
        return self.kind(cell(self.kind, view.address + self.offset).value)

    def __set__(self, view: Struct, value: T) -> None:
        if isinstance(value, Int) and type(value) is not self.kind:
            raise TypeError(f"{self.name} is {self.kind.__name__}, not {type(value).__name__}")
        cell(self.kind, view.address + self.offset).value = value


class ArrayView(Generic[T]):
    """Elements of an `Array` of one struct instance."""

    __slots__ = ("_cells", "_kind")

    def __init__(self, kind: type[T], address: int, length: int) -> None:
        self._kind = kind
        self._cells = (_CTYPES[kind.WIDTH, kind.SIGNED] * length).from_address(address)

    def __getitem__(self, index: int) -> T:
        return self._kind(self._cells[index])

    def __setitem__(self, index: int, value: T) -> None:
        if isinstance(value, Int) and type(value) is not self._kind:
            raise TypeError(f"element is {self._kind.__name__}, not {type(value).__name__}")
        self._cells[index] = value

    def __len__(self) -> int:
        return len(self._cells)


class Array(Generic[T]):
    """A fixed array of scalars. Native code does not check the index: mask it."""

    def __init__(self, kind: type[T], length: int, *, doc: str = "") -> None:
        self.kind = kind
        self.length = length
        self.__doc__ = doc
        self.offset = -1
        self.name = ""
        self.alignment = kind.WIDTH // 8
        self.size = self.alignment * length

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> Self: ...

    @overload
    def __get__(self, view: Struct, owner: type) -> ArrayView[T]: ...

    def __get__(self, view: Struct | None, owner: type) -> Self | ArrayView[T]:
        if view is None:
            return self
        return self.view(view)

    def view(self, view: Struct) -> ArrayView[T]:
        """The elements within `view`."""
        key = self.name
        found: ArrayView[T] | None = view.views.get(key)
        if found is None:
            found = view.views[key] = ArrayView(self.kind, view.address + self.offset, self.length)
        return found


class Nested(Generic[S]):
    """A struct inside a struct."""

    def __init__(self, kind: type[S], *, doc: str = "") -> None:
        self.kind = kind
        self.__doc__ = doc
        self.offset = -1
        self.name = ""
        self.alignment = 16
        self.size = kind.SIZE

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> Self: ...

    @overload
    def __get__(self, view: Struct, owner: type) -> S: ...

    def __get__(self, view: Struct | None, owner: type) -> Self | S:
        if view is None:
            return self
        found: S | None = view.views.get(self.name)
        if found is None:
            found = view.views[self.name] = self.kind(view.address + self.offset)
        return found


Member = Field[Any] | Array[Any] | Nested[Any]


class Struct:
    """Base of the declared structs. An instance is a view; it does not own the memory unless made
    by `allocate`.
    """

    SIZE: ClassVar[int] = 0
    MEMBERS: ClassVar[dict[str, Member]] = {}
    PLAIN: ClassVar[type[ctypes.Structure]]

    def __init_subclass__(cls) -> None:
        members = dict(cls.__mro__[1].__dict__.get("MEMBERS", {}))
        offset = cls.__mro__[1].__dict__.get("SIZE", 0)
        for name, member in cls.__dict__.items():
            if isinstance(member, Field | Array | Nested):
                offset = -(-offset // member.alignment) * member.alignment
                member.offset = offset
                members[name] = member
                offset += member.size
        cls.MEMBERS = members
        cls.SIZE = -(-offset // 16) * 16

    def __init__(self, address: int) -> None:
        self.address = address
        self.views: dict[str, Any] = {}

    @classmethod
    def at(cls, address: u64) -> Self:
        """The struct at a host address."""
        return cls(int(address))

    @classmethod
    def allocate(cls) -> Self:
        """A zeroed instance in page-aligned memory of its own, which lives as long as the view."""
        memory = mmap.mmap(-1, max(cls.SIZE, mmap.PAGESIZE))
        view = cls(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        view.views["__memory__"] = memory
        return view

    def pointer(self) -> u64:
        """The host address, as native code sees it."""
        return u64(self.address)

    def plain(self) -> Any:
        """The same memory, its scalars and arrays as attributes that are plain integers and ctypes
        arrays: six times as fast to touch as the typed members. For Python that runs per exit.
        """
        if "PLAIN" not in type(self).__dict__:
            type(self).PLAIN = _plain_view(type(self).__name__, self.MEMBERS)
        return self.PLAIN.from_address(self.address)


def _plain_view(struct_name: str, members: dict[str, Member]) -> type[ctypes.Structure]:
    fields: list[tuple[str, Any]] = []
    end = 0
    for name, member in members.items():
        if member.offset > end:
            fields.append((f"_gap_{end}", ctypes.c_uint8 * (member.offset - end)))
        end = member.offset + member.size
        if isinstance(member, Nested):
            fields.append((f"_struct_{name}", ctypes.c_uint8 * member.size))
            continue
        cell_type = _CTYPES[member.kind.WIDTH, member.kind.SIGNED]
        fields.append((name, cell_type * member.length if isinstance(member, Array) else cell_type))
    return type(struct_name, (ctypes.Structure,), {"_pack_": 1, "_fields_": fields})

"""Type names to classes. A type is found by the file that declares it: there is no list."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ratite.core.sources import declarations

if TYPE_CHECKING:
    from ratite.qom.object import Object

_DECLARATION = re.compile(r'^    type_name(?:: ClassVar\[str\])? = "([^"\n]+)"', re.MULTILINE)


class Registry:
    """The classes that declare a `type_name`, by that name.

    A class enters when its module is imported. `find` imports that module itself: it looks once for
    lines that declare a `type_name` in the sources below `root`, without importing them.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._classes: dict[str, type[Object]] = {}
        self._modules: dict[str, str] | None = None

    def register(self, cls: type[Object]) -> None:
        """Enter a class under its type name. A module loaded again replaces its own entry."""
        known = self._classes.get(cls.type_name)
        assert known is None or known.__qualname__ == cls.__qualname__, (
            f"two classes named '{cls.type_name}': {known!r} and {cls!r}"
        )
        self._classes[cls.type_name] = cls

    def find(self, type_name: str) -> type[Object] | None:
        """The class of this type name; None if there is none. It imports at most the one module
        that declares it.
        """
        if type_name not in self._classes:
            module = self._declared().get(type_name)
            if module is not None:
                importlib.import_module(module)
        return self._classes.get(type_name)

    def names(self) -> list[str]:
        """Every type name there is, imported or not, sorted."""
        return sorted({*self._classes, *self._declared()})

    def all(self) -> Iterator[type[Object]]:
        """Every class, in order of its type name; imports all modules that declare one."""
        for name in self.names():
            cls = self.find(name)
            if cls is not None:
                yield cls

    def _declared(self) -> dict[str, str]:
        if self._modules is None:
            self._modules = dict(declarations(self._root, _DECLARATION))
        return self._modules


registry = Registry("ratite")

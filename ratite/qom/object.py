"""Objects: a type name, typed properties, one parent, children, links, three-phase reset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.errors import ConfigError
from ratite.qom.property import (
    NOTHING,
    Property,
    PropertyError,
    Resolver,
    build_groups,
    declared_properties,
    parse_arguments,
)
from ratite.qom.registry import registry


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to an object elsewhere in the tree, shown as `link<type>`."""

    type_name: str
    target: Object | None


@dataclass(frozen=True, slots=True)
class Fact:
    """A property that can only be read: a name, a type's name, and the value as JSON has it."""

    name: str
    type_name: str
    value: object


@dataclass(frozen=True, slots=True)
class PropertyInfo:
    """One line of `qom-list`."""

    name: str
    type_name: str
    description: str = ""


class Object:
    """Base of everything in the composition tree.

    The Python class is the type, and its `type_name` the name a management client sees; a class
    without one of its own is not seen, one that says `abstract = True` has no instances. Making an
    object may not fail for reasons the guest or host can cause; realizing it may.
    """

    type_name: ClassVar[str] = "object"

    abstract: ClassVar[bool] = True
    """True if the very class that says so has no instances, only those that refine it."""

    id = ""
    """What the user named it, or empty."""

    value_type_names: ClassVar[Mapping[str, str]] = {
        "str": "string",
        **dict.fromkeys("size int32 int64 uint8 uint16 uint32 uint64".split(), "int"),
    }
    """What clients know the types of properties as, where it is not their own name: objects do not
    tell widths, devices do.
    """

    _declared: ClassVar[Mapping[str, Property]]
    _parent: Object | None = None
    _name = ""

    def __init__(self) -> None:
        self._children: dict[str, Object] = {}
        self._links: dict[str, Link] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "type_name" in cls.__dict__:
            registry.register(cls)

    # -- types

    @classmethod
    def is_abstract(cls) -> bool:
        """Whether the type has no instances of its own."""
        return bool(vars(cls).get("abstract"))

    @classmethod
    def lineage(cls) -> tuple[str, ...]:
        """The names of the types that it refines, the nearest first."""
        return tuple(vars(c)["type_name"] for c in cls.__mro__[1:] if "type_name" in vars(c))

    @classmethod
    def is_of(cls, type_name: str) -> bool:
        """Whether it is this type, or refines it."""
        return type_name == cls.type_name or type_name in cls.lineage()

    @classmethod
    def is_user_creatable(cls) -> bool:
        """Whether `-object` makes it: it has a `complete`, called once its properties are set."""
        return callable(getattr(cls, "complete", None)) and not cls.is_abstract()

    # -- composition tree

    @property
    def parent(self) -> Object | None:
        """The object it is a child of; None at a root or before it was added."""
        return self._parent

    @property
    def name(self) -> str:
        """Its name in its parent; empty without one."""
        return self._name

    @property
    def children(self) -> Mapping[str, Object]:
        """The children by name, in the order of adding."""
        return MappingProxyType(self._children)

    @property
    def links(self) -> Mapping[str, Link]:
        """The links by name."""
        return MappingProxyType(self._links)

    @property
    def path(self) -> str:
        """The canonical path from the root it hangs from; "/" for that root itself."""
        parts: list[str] = []
        node: Object = self
        while node._parent is not None:
            parts.append(node._name)
            node = node._parent
        return "/" + "/".join(reversed(parts))

    def add_child(self, name: str, child: Object) -> None:
        """Adopt a child that has no parent. A name ending in `[*]` takes the first free number."""
        assert child._parent is None, f"'{child.path}' has a parent"
        if name.endswith("[*]"):
            name = self._numbered(name[:-3])
        if name in self._children:
            raise ConfigError(f"duplicate id '{name}' in '{self.path}'")
        self._children[name] = child
        child._parent = self
        child._name = name

    def unparent(self) -> None:
        """Leave the parent. Does nothing without one."""
        if self._parent is not None:
            del self._parent._children[self._name]
            self._parent = None
            self._name = ""

    def set_link(self, name: str, type_name: str, target: Object | None) -> None:
        """Point the link `name` at an object of that type, or at nothing."""
        self._links[name] = Link(type_name, target)

    def remove_link(self, name: str) -> None:
        """Have the link no longer."""
        del self._links[name]

    def walk(self) -> Iterator[Object]:
        """This object and all below it, parents first."""
        yield self
        for child in tuple(self._children.values()):
            yield from child.walk()

    def resolve(self, path: str) -> Object | None:
        """The object at a path below this one, links followed; None if there is none.

        A path that starts with "/" is taken from here. Any other is a tail that must match exactly
        one object.
        """
        if path.startswith("/"):
            return self._descend([part for part in path.split("/") if part])
        parts = [part for part in path.split("/") if part]
        found = [hit for node in self.walk() if (hit := node._descend(parts)) is not None]
        return found[0] if len(found) == 1 and parts else None

    def _descend(self, parts: list[str]) -> Object | None:
        node: Object | None = self
        for part in parts:
            if node is None:
                return None
            link = node._links.get(part)
            node = node._children.get(part) or (link.target if link else None)
        return node

    def _numbered(self, stem: str) -> str:
        number = 0
        while f"{stem}[{number}]" in self._children:
            number += 1
        return f"{stem}[{number}]"

    # -- properties

    @classmethod
    def properties(cls) -> Mapping[str, Property]:
        """The declared properties by name, in the order of the constructor."""
        known = cls.__dict__.get("_declared")
        if known is None:
            declared = declared_properties(cls, cls.value_type_names)
            known = cls._declared = MappingProxyType(dict(declared))
        return known

    @property
    def frozen(self) -> bool:
        """True once properties cannot be set any more."""
        return False

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` of every instance names. A subclass adds its own."""
        return [PropertyInfo("type", "string")]

    def facts(self) -> list[Fact]:
        """What clients can read besides the declared properties. A subclass adds its own."""
        return [Fact("type", "string", self.type_name)]

    def list_properties(self) -> list[PropertyInfo]:
        """What `qom-list` answers."""
        infos = [PropertyInfo(fact.name, fact.type_name) for fact in self.facts()]
        infos += [
            PropertyInfo(name, f"link<{link.type_name}>") for name, link in self._links.items()
        ]
        infos += [PropertyInfo(entry.name, entry.type_name) for entry in self.properties().values()]
        infos += [PropertyInfo(n, f"child<{c.type_name}>") for n, c in self._children.items()]
        return infos

    def get_property(self, name: str) -> object:
        """A property as JSON can hold it; a child or link is its path. Raises `PropertyError`."""
        entry = self.properties().get(name)
        if entry is not None:
            return entry.to_json(entry.get(self))
        if name in self._children:
            return self._children[name].path
        if name in self._links:
            target = self._links[name].target
            return target.path if target is not None else ""
        for fact in self.facts():
            if fact.name == name:
                return fact.value
        raise PropertyError(f"Property '{self.type_name}.{name}' not found")

    def set_property(
        self, name: str, value: object, resolve: Resolver | None = None, *, strict: bool = False
    ) -> None:
        """Set a declared property from text or JSON, if `strict` from JSON only. Raises
        `PropertyError`.
        """
        entry = self.properties().get(name)
        if entry is None:
            if name in (*self._children, *self._links, *(fact.name for fact in self.facts())):
                raise PropertyError(f"Property '{self.type_name}.{name}' is not writable")
            raise PropertyError(f"Property '{self.type_name}.{name}' not found")
        if self.frozen:
            who = f"device '{self.id}'" if self.id else "anonymous device"
            raise PropertyError(
                f"Attempt to set property '{name}' on {who} (type '{self.type_name}')"
                " after it was realized"
            )
        if "." in entry.attribute:
            raise PropertyError(f"Property '{self.type_name}.{name}' is not writable")
        parsed = entry.parse(self.type_name, value, resolve, strict=strict)
        setattr(self, entry.attribute, parsed)

    # -- reset: each phase runs over the whole tree, children first, before the next begins

    def reset_enter(self) -> None:
        """First phase: set own state to power-on values. Touch no other object."""

    def reset_hold(self) -> None:
        """Second phase: drive outputs to what reset makes them."""

    def reset_exit(self) -> None:
        """Third phase: start what runs by itself."""


class Container(Object):
    """An object that only has children."""

    type_name = "container"


def find_type(type_name: str) -> type[Object] | None:
    """The class of a type name, imported if need be; None if there is none."""
    return registry.find(type_name)


def keyword_arguments(
    cls: type[Object],
    values: Mapping[str, object],
    resolve: Resolver | None = None,
    *,
    strict: bool = False,
    defaults: Mapping[str, str] = NOTHING,
) -> dict[str, Any]:
    """Property values as users write them, as keyword arguments of the constructor. If they are
    `strict`, they have the types of JSON. `defaults` are texts for properties without a value.

    Raises `PropertyError`.
    """
    parsed = parse_arguments(
        cls.type_name, cls.properties(), values, resolve, strict=strict, defaults=defaults
    )
    return build_groups(cls, parsed)


def object_new(
    cls: type[Object], values: Mapping[str, object], resolve: Resolver | None = None
) -> Object:
    """Make an object of a type that needs no wiring, from property values as users write them.

    Raises `PropertyError` for a value that is wrong, never for anything the host does.
    """
    return cls(**keyword_arguments(cls, values, resolve))


def reset_tree(root: Object) -> None:
    """Reset an object and all below it, in three phases."""
    nodes = list(root.walk())
    nodes.reverse()
    for node in nodes:
        node.reset_enter()
    for node in nodes:
        node.reset_hold()
    for node in nodes:
        node.reset_exit()

"""The composition tree: types, objects, properties.

Source: QEMU's QMP reference, "QEMU Object Model (QOM)". Types are looked at, never instantiated,
to answer questions about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ratite.machines.config import ObjectConfig
from ratite.monitor.command import Rest, command
from ratite.monitor.errors import DeviceNotFound, QmpError
from ratite.monitor.types import (
    BOOL,
    INT,
    STR,
    ArrayType,
    Member,
    ObjectType,
    Type,
    word_type,
)
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Object, Property, PropertyInfo, find_type, registry
from ratite.qom.property import Form, Required

USER_CREATABLE = "user-creatable"
"""The interface of what `object-add` makes, as management clients call it."""
_FORMS: dict[Form, Type] = {
    Form.BOOL: BOOL,
    Form.INT: INT,
    Form.SIZE: INT,
    Form.INTS: ArrayType(INT),
}


def _numbers(entry: Property) -> Type:
    members = (Member(name, name, INT, optional=True) for name, _ in entry.choices)
    return ObjectType(entry.type_name, tuple(members))


def find_object(vm: Vm, path: str) -> Object:
    """The object at a path, absolute or the unique tail of one. Raises `DeviceNotFound`,
    `QmpError`.
    """
    found = vm.root.resolve(path)
    if found is None:
        raise DeviceNotFound(f"Device '{path}' not found")
    return found


@dataclass(frozen=True)
class ObjectPropertyInfo:
    """A property of an object or type."""

    name: str
    type: Annotated[str, Doc("its type; `child<T>` and `link<T>` lead to objects")]
    description: str | None = None
    default_value: Any | None = None


@command("qom-list", preconfig=True)
def qom_list(
    vm: Vm, path: Annotated[str, Doc("absolute, or the tail of one path only")]
) -> list[ObjectPropertyInfo]:
    """The properties and children of an object."""
    return [
        ObjectPropertyInfo(info.name, info.type_name)
        for info in find_object(vm, path).list_properties()
    ]


@command("qom-get", preconfig=True)
def qom_get(vm: Vm, path: str, property: str) -> Any:
    """The value of a property. That of a child or link is a path."""
    return find_object(vm, path).get_property(property)


@command("qom-set", preconfig=True)
def qom_set(vm: Vm, path: str, property: str, value: Any) -> None:
    """Set a property."""
    find_object(vm, path).set_property(property, value, vm.backends.resolve, strict=True)


@dataclass(frozen=True)
class ObjectTypeInfo:
    """A type of objects."""

    name: str
    abstract: Annotated[bool | None, Doc("true if it has no instances")] = None
    parent: Annotated[str | None, Doc("the type that it refines")] = None


@command("qom-list-types", preconfig=True)
def qom_list_types(
    vm: Vm,
    implements: Annotated[str | None, Doc("only types that are of this one")] = None,
    abstract: Annotated[bool, Doc("with those that have no instances")] = False,
) -> list[ObjectTypeInfo]:
    """All types."""
    found = []
    for cls in registry.all():
        if implements is not None and not _is_of(cls, implements):
            continue
        hidden = cls.is_abstract()
        if abstract or not hidden:
            found.append(ObjectTypeInfo(cls.type_name, hidden or None, cls.lineage()[0]))
    return found


def _is_of(cls: type[Object], name: str) -> bool:
    if name == USER_CREATABLE:
        return cls.is_user_creatable()
    return cls.is_of(name)


def _describe(entry: Property) -> ObjectPropertyInfo:
    default = None
    if entry.default is not Required.REQUIRED and entry.default is not None:
        shown = entry.to_json(entry.default)
        default = shown if shown != "" else None
    return ObjectPropertyInfo(entry.name, entry.type_name, entry.description or None, default)


@command("device-list-properties")
def device_list_properties(vm: Vm, typename: str) -> list[ObjectPropertyInfo]:
    """The properties that a type of device has when it is made."""
    cls = find_type(typename)
    if cls is None:
        raise DeviceNotFound(f"Device '{typename}' not found")
    if "device" not in cls.lineage() or cls.is_abstract():
        raise QmpError("Parameter 'typename' expects a non-abstract device type")
    return [_describe(entry) for entry in cls.properties().values()]


@command("qom-list-properties", preconfig=True)
def qom_list_properties(vm: Vm, typename: str) -> list[ObjectPropertyInfo]:
    """The properties of a type of object."""
    cls = find_type(typename)
    if cls is None:
        raise DeviceNotFound(f"Class '{typename}' not found")
    declared = [
        PropertyInfo(entry.name, entry.type_name, entry.description)
        for entry in cls.properties().values()
    ]
    return [
        ObjectPropertyInfo(info.name, info.type_name, info.description or None)
        for info in (*cls.fact_infos(), *declared)
    ]


# -- user-created objects


def property_members(cls: type[Object]) -> ObjectType:
    """The properties of a type as members of an object."""
    members = []
    for entry in cls.properties().values():
        if entry.form is Form.ENUM:
            type_: Type = word_type(entry.type_name, (word for word, _ in entry.choices))
        elif entry.form is Form.NUMBERS:
            type_ = _numbers(entry)
        else:
            type_ = _FORMS.get(entry.form, STR)
        optional = entry.default is not Required.REQUIRED
        members.append(Member(entry.name, entry.attribute, type_, optional, doc=entry.description))
    return ObjectType(cls.type_name, tuple(members), cls)


def _object_variants(arguments: ObjectType) -> ObjectType:
    classes = {cls.type_name: cls for cls in registry.all() if cls.is_user_creatable()}
    words = word_type("ObjectType", classes)
    variants = tuple((name, property_members(cls)) for name, cls in classes.items())
    return ObjectType(
        arguments.name, arguments.members, tag="qom-type", variants=variants, words=words
    )


@command("object-add", preconfig=True, variants=_object_variants)
def object_add(
    vm: Vm,
    qom_type: Annotated[str, Doc("its type")],
    id: Annotated[str, Doc("its name below /objects")],
    properties: Rest,
) -> None:
    """Make an object, with properties as its type has them."""
    vm.backends.add_object(ObjectConfig(qom_type, id, properties, strict=True))


def _is_used(vm: Vm, found: Object) -> bool:
    if getattr(found, "in_use", False):
        return True
    properties = ((node, e) for node in vm.root.walk() for e in node.properties().values())
    return any(entry.kind and entry.get(node) is found for node, entry in properties)


@command("object-del", preconfig=True)
def object_del(vm: Vm, id: str) -> None:
    """Delete an object that `object-add` or `-object` made. It must not be in use."""
    found = vm.root.children["objects"].children.get(id)
    if found is None:
        raise QmpError(f"object '{id}' not found")
    if _is_used(vm, found):
        raise QmpError(f"object '{id}' is in use, can not be deleted")
    vm.backends.remove_object(id)

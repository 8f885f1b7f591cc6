"""Commands: one function each. The signature is the schema.

    @command("qom-get", since="0.1")
    def qom_get(vm: Vm, path: str, property: str) -> Any:
        \"\"\"A property's value.\"\"\"

Parameters annotated `Vm` and `Session` are supplied; the others are the command's arguments. A
parameter annotated `Rest` takes arguments of any other name. A command whose arguments are a union
has one parameter for all of them, and says `boxed=True`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import pkgutil
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ratite.monitor.later import Later
from ratite.monitor.session import Session
from ratite.monitor.types import Member, ObjectType, Type, UnionType, member, type_of
from ratite.monitor.vm import Vm

F = TypeVar("F", bound=Callable[..., Any])


class RestMark:
    """Marks the parameter that takes what no other does."""


Rest = typing.Annotated[dict[str, Any], RestMark()]
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One command of QMP."""

    name: str
    function: Callable[..., Any]
    arguments: ObjectType | UnionType
    returns: Type | None
    since: str
    features: tuple[str, ...]
    allow_oob: bool
    preconfig: bool  # allowed before the machine is built, too
    vm_parameter: str
    session_parameter: str
    variants: Callable[[ObjectType], ObjectType] | None
    boxed: str  # the parameter that takes all arguments, if there is one

    @property
    def doc(self) -> str:
        """What it does: the function's docstring."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def summary(self) -> str:
        """The first paragraph of `doc`, on one line."""
        return " ".join(_PARAGRAPH.split(self.doc)[0].split())

    def parse(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """The arguments as keyword arguments of the function. Raises `QmpError`."""
        if isinstance(self.arguments, UnionType):
            return {self.boxed: self.arguments.parse(dict(arguments), "")}
        return self.arguments.parse_members(arguments)

    def execute(self, vm: Vm, session: Session, arguments: Mapping[str, object]) -> object:
        """Check the arguments, do it, and answer the result as JSON has it, or `Later` for that.
        Raises `QmpError`, and what the function raises.
        """
        given = self.parse(arguments)
        if self.vm_parameter:
            given[self.vm_parameter] = vm
        if self.session_parameter:
            given[self.session_parameter] = session
        result = self.function(**given)
        if isinstance(result, Later):
            return result.then(lambda outcome: self._dump(outcome()))
        return self._dump(result)

    def _dump(self, result: object) -> object:
        return {} if self.returns is None else self.returns.dump(result)


COMMANDS: dict[str, Command] = {}
"""All commands whose modules are imported; `load` imports the rest."""


def command(
    name: str,
    *,
    since: str = "0.1",
    features: tuple[str, ...] = (),
    allow_oob: bool = False,
    preconfig: bool = False,
    variants: Callable[[ObjectType], ObjectType] | None = None,
    boxed: bool = False,
) -> Callable[[F], F]:
    """Enter a function as the command `name`. `variants` completes the arguments' type, for
    introspection only, where it depends on what types there are.
    """

    def enter(function: F) -> F:
        hints = typing.get_type_hints(function, include_extras=True)
        vm = session = rest = ""
        members: list[Member] = []
        for parameter in inspect.signature(function).parameters.values():
            hint = hints[parameter.name]
            if hint is Vm:
                vm = parameter.name
            elif hint is Session:
                session = parameter.name
            elif hint == Rest:
                rest = parameter.name
            else:
                optional = parameter.default is not parameter.empty
                default = parameter.default if optional else None
                members.append(member(parameter.name, hint, optional=optional, default=default))
        arguments: ObjectType | UnionType = ObjectType(name, tuple(members), rest=rest)
        if boxed:
            (only,) = members
            assert isinstance(only.type, UnionType)
            arguments = only.type
        returns = _without_later(hints["return"])
        assert name not in COMMANDS, f"two commands '{name}'"
        COMMANDS[name] = Command(
            name,
            function,
            arguments,
            None if returns is type(None) else type_of(returns),
            since,
            features,
            allow_oob,
            preconfig,
            vm,
            session,
            variants,
            members[0].attribute if boxed else "",
        )
        return function

    return enter


def _without_later(returns: Any) -> Any:
    """What a function answers now or later."""
    kinds = [kind for kind in typing.get_args(returns) if kind is not Later]
    if Later not in typing.get_args(returns):
        return returns
    return functools.reduce(operator.or_, kinds)


def load() -> dict[str, Command]:
    """All commands there are."""
    import ratite.monitor.commands as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return COMMANDS

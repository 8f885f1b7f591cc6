"""Marking a function as native, and refusing at once what the subset does not hold.

A native function stays an ordinary Python function. The decorator finds its syntax tree (each
source file is parsed once), checks it against the subset and remembers it; generating code happens
later, in `frontend`.
"""

from __future__ import annotations

import ast
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ratite.native.cache import ObjectCache, key_of
from ratite.native.identity import ROOT, source_digest

F = TypeVar("F", bound=Callable[..., Any])


class NativeError(Exception):
    """A function that is not in the native subset: file, line and the reason."""


_STATEMENTS = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Expr,
    ast.If,
    ast.While,
    ast.For,
    ast.Return,
    ast.Break,
    ast.Continue,
    ast.Pass,
)
_EXPRESSIONS = (
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.Attribute,
    ast.Subscript,
    ast.Name,
    ast.Constant,
    ast.Tuple,
)
_OPERATORS = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Mod,
    ast.LShift,
    ast.RShift,
    ast.BitAnd,
    ast.BitOr,
    ast.BitXor,
    ast.Invert,
    ast.USub,
    ast.Not,
    ast.And,
    ast.Or,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Is,
    ast.IsNot,
)
_OTHER = (ast.Load, ast.Store, ast.keyword)

_parsing = threading.Lock()
"""One thread at a time: CPython 3.11 counts the depth of all trees that are being made in one
number, and raises SystemError if another thread changed it.
"""


@functools.lru_cache(maxsize=64)
def _functions_of(path: str, _stamp: int) -> dict[int, ast.FunctionDef]:
    """Function definitions of a file, by the line of their first decorator or `def`."""
    with open(path, encoding="utf-8") as source, _parsing:
        tree = ast.parse(source.read(), path)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[first] = node
    return found


class NativeFunction:
    """What the frontend knows of a native function."""

    def __init__(self, function: Callable[..., Any], *, inline: bool) -> None:
        self.function = function
        self.inline = inline
        self.path = function.__code__.co_filename
        self.name = f"{function.__module__.removeprefix('ratite.')}.{function.__qualname__}"

    @functools.cached_property
    def tree(self) -> ast.FunctionDef:
        """The definition's syntax tree."""
        stamp = os.stat(self.path).st_mtime_ns
        node = _functions_of(self.path, stamp).get(self.function.__code__.co_firstlineno)
        if node is None or node.name != self.function.__name__:
            raise NativeError(f"{self.path}: source of {self.name} not found")
        return node

    def check(self) -> None:
        """Refuse what is outside the subset, whatever the types are."""
        arguments = self.tree.args
        if arguments.vararg or arguments.kwarg or arguments.defaults or arguments.kw_defaults:
            self.refuse(self.tree, "parameters with defaults, * or ** are not in the native subset")
        for statement in self.tree.body:
            for node in ast.walk(statement):
                self._check_node(node)

    def _check_node(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, int | str | type(None)):
                self.refuse(node, f"the constant {node.value!r} is not an integer")
        elif isinstance(node, ast.For | ast.While) and node.orelse:
            self.refuse(node, "'else' of a loop is not in the native subset")
        elif isinstance(node, ast.Assign) and len(node.targets) != 1:
            self.refuse(node, "chained assignment is not in the native subset")
        elif not isinstance(node, _STATEMENTS + _EXPRESSIONS + _OPERATORS + _OTHER):
            self.refuse(node, f"{type(node).__name__} is not in the native subset")

    def refuse(self, node: ast.AST, reason: str) -> None:
        """Raise `NativeError` at `node`."""
        line = getattr(node, "lineno", self.tree.lineno)
        raise NativeError(f"{self.path}:{line}: {self.name}: {reason}")


_PACKAGE = str(ROOT) + os.sep


def _stamp() -> str:
    return key_of(("checked", source_digest()))


@functools.cache
def _checked_before() -> bool:
    """Whether the package's own sources, byte for byte as they are, have passed the check in an
    earlier process: parsing them all again would take a good part of the start.
    """
    return ObjectCache().get(_stamp()) is not None


def note_checked() -> None:
    """The package's sources have passed the check, and code was generated from them."""
    ObjectCache().put(_stamp(), b"checked")


def native(function: F) -> F:
    """Mark a function as native. Raises `NativeError` if it is outside the subset."""
    return _mark(function, inline=False)


def inlined(function: F) -> F:
    """Mark a native function whose body is placed into each caller: for code that touches guest
    memory or ends an instruction, and so needs its caller's context."""
    return _mark(function, inline=True)


def _mark(function: F, *, inline: bool) -> F:
    native_function = NativeFunction(function, inline=inline)
    if not (native_function.path.startswith(_PACKAGE) and _checked_before()):
        native_function.check()
    function.__native__ = native_function  # type: ignore[attr-defined]
    return function

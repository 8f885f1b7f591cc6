"""Optimising the IR: constant folding and copy propagation, branch folding, dead code, dead stores.

Each pass takes a function and changes it in place; `optimize` runs them to a fixed point. What a
value is known to be is written once, in `fold` and `simplify`; tests hold both against CPython's
typed integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ratite.native.ir import (
    COMPARES,
    OPCODES,
    WIDTH,
    Block,
    Function,
    Op,
    Operand,
    Value,
    successors,
)

Fold = Callable[[int, int, int], int]


def signed(value: int, width: int) -> int:
    """A bit pattern as a two's-complement number."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


FOLDS: dict[str, Fold] = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul": lambda a, b, w: a * b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "shl": lambda a, b, w: a << (b % w),
    "lshr": lambda a, b, w: a >> (b % w),
    "ashr": lambda a, b, w: signed(a, w) >> (b % w),
    "eq": lambda a, b, w: int(a == b),
    "ne": lambda a, b, w: int(a != b),
    "ult": lambda a, b, w: int(a < b),
    "ule": lambda a, b, w: int(a <= b),
    "slt": lambda a, b, w: int(signed(a, w) < signed(b, w)),
    "sle": lambda a, b, w: int(signed(a, w) <= signed(b, w)),
}
"""Value of an op on constants, before it is cut to the result's width."""


def fold(name: str, type_: str, arguments: tuple[int, ...], source: str = "") -> int | None:
    """The value of an op whose arguments are constants; None if it is not for folding. `source` is
    the type converted from.
    """
    width = WIDTH.get(type_, 0)
    mask = (1 << width) - 1
    if name in FOLDS:
        a, b = (argument & mask for argument in arguments)
        return FOLDS[name](a, b, width) & (1 if name in COMPARES else mask)
    if name in ("zext", "trunc") and source:
        return arguments[0] & ((1 << WIDTH[source]) - 1) & mask
    if name == "sext" and source:
        narrow = WIDTH[source]
        return signed(arguments[0] & ((1 << narrow) - 1), narrow) & mask
    return None


def simplify(op: Op) -> Operand | None:
    """An argument or constant that the op always equals, by an identity of its operation."""
    if len(op.args) != 2 or op.type not in WIDTH:
        if op.name == "select" and op.args[1] == op.args[2]:
            return op.args[1]
        return None
    a, b = op.args
    mask = (1 << WIDTH[op.type]) - 1
    if isinstance(a, int) and OPCODES[op.name].commutes:
        a, b = b, a
    if isinstance(b, int):
        b &= mask
    match op.name:
        case "add" | "sub" | "or" | "xor" | "shl" | "lshr" | "ashr" if b == 0:
            return a
        case "and" | "mul" if b == 0:
            return 0
        case "mul" if b == 1:
            return a
        case "and" if b == mask:
            return a
        case "or" if b == mask:
            return mask
        case "sub" | "xor" if a is b and isinstance(a, Value):
            return 0
        case "and" | "or" if a is b and isinstance(a, Value):
            return a
        case "eq" | "ule" | "sle" if a is b and isinstance(a, Value):
            return 1
        case "ne" | "ult" | "slt" if a is b and isinstance(a, Value):
            return 0
        case "ult" if b == 0:
            return 0
    return None


def optimize(function: Function) -> None:
    """Run the passes until nothing changes."""
    changed = True
    while changed:
        changed = propagate(function)
        changed |= fold_branches(function)
        changed |= remove_dead_variables(function)
        changed |= remove_dead_code(function)
        changed |= remove_dead_stores(function)


# -- constants and copies


def propagate(function: Function) -> bool:
    """Replace values by what they are known to be: constants, other values, variables' contents."""
    known: dict[int, Operand] = {}
    changed = False

    def resolve(operand: Operand) -> Operand:
        while isinstance(operand, Value) and operand.number in known:
            operand = known[operand.number]
        return operand

    for block in function.blocks:
        contents: dict[int, Operand] = {}
        kept = []
        for op in block.ops:
            arguments = tuple(resolve(argument) for argument in op.args)
            value: Operand | None = _converted(op, arguments)
            if any(new is not old for new, old in zip(arguments, op.args, strict=True)):
                op = op.replaced(arguments)
                changed = True
            if op.name == "setvar":
                contents[int(op.attributes["var"])] = op.args[0]
            if value is None:
                value = _known_value(op, contents)
            if value is not None and op.result is not None:
                known[op.result.number] = value
                changed = True
                continue
            if op.name == "getvar" and op.result is not None:
                contents[int(op.attributes["var"])] = op.result
            kept.append(op)
        block.ops = kept
    if known:  # a use may stand in a block that comes before its definition's in the list
        for block in function.blocks:
            block.ops = [_with_known(op, resolve) for op in block.ops]
    return changed


def _with_known(op: Op, resolve: Callable[[Operand], Operand]) -> Op:
    arguments = tuple(resolve(argument) for argument in op.args)
    if all(new is old for new, old in zip(arguments, op.args, strict=True)):
        return op
    value = _converted(op, arguments)
    if value is not None:
        return Op("mov", op.type, (value,), op.result)
    return op.replaced(arguments)


def _converted(op: Op, arguments: tuple[Operand, ...]) -> int | None:
    """What a conversion gives whose argument has turned out to be a constant: only the value that
    stood there knows the type.
    """
    if op.name not in ("zext", "sext", "trunc"):
        return None
    before, now = op.args[0], arguments[0]
    if isinstance(now, int) and isinstance(before, Value):
        return fold(op.name, op.type, (now,), before.type)
    return None


def _known_value(op: Op, contents: dict[int, Operand]) -> Operand | None:
    if op.name == "mov":
        return op.args[0]
    if op.name == "getvar":
        return contents.get(int(op.attributes["var"]))
    if op.name == "select" and isinstance(op.args[0], int):
        return op.args[1 if op.args[0] & 1 else 2]
    if op.type == "ptr":
        return None
    if op.args and all(isinstance(argument, int) for argument in op.args):
        constants = tuple(argument for argument in op.args if isinstance(argument, int))
        return fold(op.name, op.type, constants)
    return simplify(op) if op.name in FOLDS or op.name == "select" else None


# -- control


def fold_branches(function: Function) -> bool:
    """Decide branches on constants, drop what cannot be reached, join blocks that only follow one
    another.
    """
    changed = False
    for block in function.blocks:
        end = block.ops[-1]
        if end.name == "cbr" and isinstance(end.args[0], int):
            target = end.targets[0 if end.args[0] & 1 else 1]
            block.ops[-1] = Op("br", "void", (), None, (target,))
            changed = True
    changed |= _drop_unreachable(function)
    return _join(function) or changed


def _drop_unreachable(function: Function) -> bool:
    by_label = {block.label: block for block in function.blocks}
    seen: set[str] = set()
    work = [function.blocks[0].label]
    while work:
        label = work.pop()
        if label not in seen:
            seen.add(label)
            work += successors(by_label[label])
    kept = [block for block in function.blocks if block.label in seen]
    dropped = len(kept) != len(function.blocks)
    function.blocks = kept
    return dropped


def _join(function: Function) -> bool:
    entries: dict[str, int] = {}
    for block in function.blocks:
        for target in successors(block):
            entries[target] = entries.get(target, 0) + 1
    by_label = {block.label: block for block in function.blocks}
    gone: set[str] = set()
    for block in function.blocks:
        if block.label in gone:
            continue
        while block.ops[-1].name == "br":
            target = block.ops[-1].targets[0]
            following = by_label[target]
            if entries[target] != 1 or following is block or following is function.blocks[0]:
                break
            block.ops = block.ops[:-1] + following.ops
            gone.add(target)
    function.blocks = [block for block in function.blocks if block.label not in gone]
    return bool(gone)


# -- what nobody needs


_REMOVABLE = frozenset(("ld", "getvar"))


def remove_dead_code(function: Function) -> bool:
    """Drop ops without effect whose results are not used."""
    used = {
        argument.number
        for op in function.values()
        for argument in op.args
        if isinstance(argument, Value)
    }
    changed = False
    for block in function.blocks:
        kept = [
            op
            for op in block.ops
            if op.result is None
            or op.result.number in used
            or not (OPCODES[op.name].pure or op.name in _REMOVABLE)
        ]
        changed |= len(kept) != len(block.ops)
        block.ops = kept
    return changed


def remove_dead_variables(function: Function) -> bool:
    """Drop assignments to variables that are not read before they are assigned again, on any
    path: liveness, backward over the blocks.
    """
    live_in = _solve(function, frozenset(), _variables_before)
    changed = False
    for block in function.blocks:
        live = set().union(*(live_in[target] for target in successors(block)))
        kept = []
        for op in reversed(block.ops):
            if op.name == "setvar":
                number = int(op.attributes["var"])
                if number not in live:
                    changed = True
                    continue
                live.discard(number)
            elif op.name == "getvar":
                live.add(int(op.attributes["var"]))
            kept.append(op)
        block.ops = kept[::-1]
    return changed


def _variables_before(block: Block, live: frozenset[int]) -> frozenset[int]:
    now = set(live)
    for op in reversed(block.ops):
        if op.name == "setvar":
            now.discard(int(op.attributes["var"]))
        elif op.name == "getvar":
            now.add(int(op.attributes["var"]))
    return frozenset(now)


class Place(NamedTuple):
    """Bytes of a struct that a parameter points to."""

    base: int
    offset: int
    size: int


_BLIND = frozenset(
    (
        *FOLDS,
        *("mov", "getvar", "setvar", "select", "clz", "ctz", "popcount", "bswap"),
        *("zext", "sext", "trunc", "ptrtoint", "inttoptr", "addr", "result", "symbol"),
        *("br", "cbr", "switch"),
    )
)
"""Ops that neither read nor write memory, nor let anybody look at the state."""


def _place(op: Op, parameters: frozenset[int]) -> Place | None:
    """What a state access touches, if that is known exactly."""
    base = op.args[0]
    indexed = len(op.args) > (2 if op.name == "st" else 1)
    if indexed or not isinstance(base, Value) or base.number not in parameters:
        return None
    return Place(base.number, int(op.attributes["offset"]), WIDTH[op.type] // 8)


def remove_dead_stores(function: Function) -> bool:
    """Drop stores to the state that are overwritten, on every path, before anything can look:
    another load, a call, guest memory, an exit. The parameters of a handler point to structs of
    their own (CPU, record, block); those of a native function may be parts of one another.
    """
    apart = function.kind != "native"
    parameters = frozenset(value.number for value in function.params if value.type == "ptr")

    def before(block: Block, dead: frozenset[Place]) -> frozenset[Place]:
        now = dead
        for op in reversed(block.ops):
            now = _dead_before(op, now, parameters, apart)
        return now

    dead_in = _solve_intersecting(function, before)
    changed = False
    for block in function.blocks:
        following = [dead_in[target] for target in successors(block)]
        dead = frozenset.intersection(*following) if following else frozenset()
        kept = []
        for op in reversed(block.ops):
            place = _place(op, parameters) if op.name == "st" else None
            if place is not None and place in dead:
                changed = True
                continue
            dead = _dead_before(op, dead, parameters, apart)
            kept.append(op)
        block.ops = kept[::-1]
    return changed


def _dead_before(
    op: Op, dead: frozenset[Place], parameters: frozenset[int], apart: bool
) -> frozenset[Place]:
    """Places that will be overwritten unseen, as of before an op, given those after it."""
    if op.name in _BLIND:
        return dead
    if op.name in ("ld", "st"):
        place = _place(op, parameters)
        if place is None:
            return frozenset()
        if op.name == "st":
            return dead | {place}
        return frozenset(other for other in dead if not _may_overlap(other, place, apart))
    return frozenset()


def _may_overlap(a: Place, b: Place, apart: bool) -> bool:
    if a.base != b.base:
        return not apart
    return a.offset < b.offset + b.size and b.offset < a.offset + a.size


def _solve(
    function: Function,
    at_end: frozenset[int],
    before: Callable[[Block, frozenset[int]], frozenset[int]],
) -> dict[str, frozenset[int]]:
    """Backward data flow whose join is the union."""
    live: dict[str, frozenset[int]] = {block.label: at_end for block in function.blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(function.blocks):
            after = at_end.union(*(live[target] for target in successors(block)))
            now = before(block, after)
            if now != live[block.label]:
                live[block.label] = now
                changed = True
    return live


def _solve_intersecting(
    function: Function, before: Callable[[Block, frozenset[Place]], frozenset[Place]]
) -> dict[str, frozenset[Place]]:
    """Backward data flow whose join is the intersection, from the empty set: never too much."""
    dead: dict[str, frozenset[Place]] = {block.label: frozenset() for block in function.blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(function.blocks):
            following = [dead[target] for target in successors(block)]
            after = frozenset.intersection(*following) if following else frozenset()
            now = before(block, after)
            if now != dead[block.label]:
                dead[block.label] = now
                changed = True
    return dead

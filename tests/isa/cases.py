"""The `.cases` files: one instruction a line, the state before it and what it changes.

    slti x1, x2, -1       | x2=~1                   -> x1=1
    sw   x1, 4(x2)        | x1=-2 x2=0x2000         -> m32[0x2004]=0xffff_fffe
    lw   x1, 0(x2)        | x2=DEVICE*2             -> trap=5 tval=DEVICE*2

Names on either side are those of the hart's state (`x1`, `f3`, `frm`, `privilege`, `mstatus` ...),
`pc`, and memory as `m8[address]` to `m64[address]`. Values are expressions of integers; `s(1.5)`
and `d(1.5)` are the bits of a boxed single and of a double (also `s(inf)`, `s(nan)`, `s(snan)`).
The code stands at 0x1000. Whatever a line does not name stays as it was, but for `pc`, which goes
on behind the instruction. On the right, `trap=CAUSE` (with `tval`, zero unless given) stands for
everything that a trap to machine mode does, and `illegal` for the trap of an illegal instruction.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from ratite.isa.riscv.state import MIE, MPIE, MPP, MPP_SHIFT
from tests.isa.assembler import assemble, number
from tests.isa.harness import CODE, DEVICE, HANDLER, RAM_SIZE, ROM, Executor, Snapshot, difference

NAMES = {
    "DEVICE": DEVICE, "ROM": ROM, "CODE": CODE, "RAM_SIZE": RAM_SIZE,
    "min": 1 << 63, "max": (1 << 63) - 1,
    "NX": 1, "UF": 2, "OF": 4, "DZ": 8, "NV": 16, "rne": 0, "rtz": 1, "rdn": 2, "rup": 3, "rmm": 4,
    "U": 0, "S": 1, "M": 3,
}  # fmt: skip
_FLOAT = re.compile(r"\b([sd])\((-?)([^()]*)\)")
_MEMORY = re.compile(r"m(8|16|32|64)\[(.*)\]")
_DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One line."""

    place: str
    text: str
    before: dict[str, str]
    after: dict[str, str]

    @property
    def mnemonic(self) -> str:
        """The instruction, without ordering suffixes."""
        return re.sub(r"\.(aq|rl|aqrl)$", "", self.text.split()[0])


def chapters() -> list[str]:
    """Names of the files."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.cases"))


def load_cases(chapter: str) -> list[Case]:
    """The cases of one file. Raises `ValueError` for a line that is none."""
    path = _DIRECTORY / f"{chapter}.cases"
    found = []
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = re.fullmatch(r"([^|]*)\|(.*?)->(.*)", line)
        if match is None:
            raise ValueError(f"{path}:{line_number}: not 'instruction | before -> after'")
        text, before, after = (part.strip() for part in match.groups())
        found.append(Case(f"{chapter}:{line_number}", text, _settings(before), _settings(after)))
    return found


def _settings(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split())
    return {name: value for name, _, value in pairs}


def value_of(text: str) -> int:
    """A value as the files write it, as 64 bits."""
    return number(_FLOAT.sub(_float_bits, text), NAMES) & (1 << 64) - 1


def _float_bits(match: re.Match[str]) -> str:
    single, negative, digits = match[1] == "s", match[2] == "-", match[3]
    if digits in ("nan", "snan"):
        bits = (
            (0x7FC0_0000 if digits == "nan" else 0x7F80_0001)
            if single
            else (0x7FF8_0000_0000_0000 if digits == "nan" else 0x7FF0_0000_0000_0001)
        )
    elif digits.startswith("0x") and "p" in digits:
        bits = _pack(float.fromhex(digits), single=single)
    else:
        bits = _pack(float(digits), single=single)
    if negative:
        bits |= 1 << (31 if single else 63)
    return str(0xFFFF_FFFF_0000_0000 | bits if single else bits)


def _pack(value: float, *, single: bool) -> int:
    if single:
        return int.from_bytes(struct.pack("<f", value), "little")
    return int.from_bytes(struct.pack("<d", value), "little")


def _apply_memory(ram: bytearray, name: str, value: int) -> bool:
    match = _MEMORY.fullmatch(name)
    if match is None:
        return False
    size, address = int(match[1]) // 8, number(match[2], NAMES)
    ram[address : address + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    return True


def check(case: Case, executor: Executor) -> None:
    """Run the case and compare the complete state with what it says."""
    code = assemble(case.text)
    executor.reset()
    ram = bytearray(executor.ram.read(0, RAM_SIZE))
    registers: dict[str, int] = {}
    pc = value_of(case.before.get("pc", "CODE"))
    ram[pc : pc + len(code)] = code
    for name, text in case.before.items():
        if not _apply_memory(ram, name, value_of(text)):
            registers[name] = value_of(text)
    executor.load(0, bytes(ram))
    executor.set({**registers, "pc": pc})
    expected = executor.snapshot()
    expected["pc"] = pc + len(code)
    expected["retired"] += 1
    for name, text in _expanded(case, expected, pc, code).items():
        if not _apply_memory(ram, name, value_of(text)):
            expected[name] = value_of(text)
    executor.run(1)
    differs = difference(expected, executor.snapshot())
    found = executor.ram.read(0, RAM_SIZE)
    changed = (
        [
            f"{at:#x}: {a:#x}, {b:#x}"
            for at, (a, b) in enumerate(zip(ram, found, strict=True))
            if a != b
        ]
        if (found != ram)
        else []
    )
    shown = {
        name: tuple(hex(v) if v is not None else None for v in pair)
        for name, pair in differs.items()
    }
    assert not differs and not changed, f"{case.text}: (expected, found) {shown} {changed[:9]}"


def _expanded(case: Case, before: Snapshot, pc: int, code: bytes) -> dict[str, str]:
    """The right side with `trap` and `illegal` written out."""
    after = dict(case.after)
    cause, value = after.pop("trap", ""), after.pop("tval", "0")
    if "illegal" in after:
        del after["illegal"]
        cause, value = "2", str(int.from_bytes(code, "little"))
    if not cause:
        return after
    status = before["mstatus"]
    status = status & ~(MPP | MPIE | MIE) | (status & MIE) << 4 | before["privilege"] << MPP_SHIFT
    entered = {
        "mcause": cause,
        "mtval": value,
        "mepc": str(pc),
        "mstatus": str(status),
        "privilege": "M",
    }
    return {**entered, "pc": str(HANDLER), "reservation_valid": "0", **after}


__all__ = ["Case", "chapters", "check", "load_cases", "value_of"]

"""What a debugger sees of a vCPU: registers in features, and their XML description.

Source: "Debugging with GDB", appendix G (target descriptions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Register:
    """One register. `read` and `write` are called while its vCPU does not execute; a written value
    has at most `bits` bits.
    """

    name: str
    number: int
    bits: int
    type: str
    read: Callable[[], int]
    write: Callable[[int], None]
    group: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.bits // 8


@dataclass(frozen=True, slots=True)
class Feature:
    """Registers under a name that gdb knows. `types` is XML that declares the types they use."""

    name: str
    registers: tuple[Register, ...]
    types: str = ""


class RegisterFile:
    """The registers of one vCPU. The first feature is what `g` and `G` transfer."""

    def __init__(self, architecture: str, features: Sequence[Feature]) -> None:
        self.architecture = architecture
        self.features = tuple(features)
        self.general = self.features[0].registers
        self._by_number = {
            register.number: register for feature in features for register in feature.registers
        }
        assert len(self._by_number) == sum(len(feature.registers) for feature in features)

    def find(self, number: int) -> Register | None:
        """The register with gdb's number."""
        return self._by_number.get(number)

    def read(self, register: Register) -> str:
        """A value as the protocol has it: hex digits in guest byte order, little-endian."""
        return register.read().to_bytes(register.size, "little").hex()

    def write(self, register: Register, digits: str) -> None:
        """Set a register from such digits. Raises `ValueError` if their number is wrong."""
        data = bytes.fromhex(digits)
        if len(data) != register.size:
            raise ValueError(f"{register.name} has {register.size} bytes")
        register.write(int.from_bytes(data, "little"))

    def description(self) -> str:
        """The target description, whole."""
        from xml.sax.saxutils import quoteattr  # it loads much that few runs need

        lines = [
            '<?xml version="1.0"?>',
            '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
            '<target version="1.0">',
            f"<architecture>{self.architecture}</architecture>",
        ]
        for feature in self.features:
            lines.append(f"<feature name={quoteattr(feature.name)}>")
            if feature.types:
                lines.append(feature.types)
            for register in feature.registers:
                group = f" group={quoteattr(register.group)}" if register.group else ""
                lines.append(
                    f"<reg name={quoteattr(register.name)} bitsize={quoteattr(str(register.bits))} "
                    f"regnum={quoteattr(str(register.number))} "
                    f"type={quoteattr(register.type)}{group}/>"
                )
            lines.append("</feature>")
        return "\n".join((*lines, "</target>", ""))


__all__ = ["Feature", "Register", "RegisterFile"]

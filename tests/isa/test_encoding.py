"""Encodings and disassembly against binutils and capstone, which know nothing of our rows."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ratite.isa.decoder import Decoder, Leaf
from ratite.isa.riscv import RISCV
from ratite.isa.riscv.csr import CSRS
from tests.isa.assembler import assemble
from tests.isa.cases import chapters, load_cases
from tests.isa.streams import Generator, name_of, rows

BINUTILS = "riscv64-linux-gnu-"
MARCH = "rv64imafdc_zicsr_zifencei_zba_zbb_zbc_zbs_zicbom_zicboz_zicbop_zihintpause_zawrs_svinval"
needs_binutils = pytest.mark.skipif(
    shutil.which(BINUTILS + "as") is None, reason="needs riscv64-linux-gnu-as"
)
DECODER = Decoder(RISCV)


def assemble_externally(lines: list[str], folder: Path) -> list[bytes]:
    """What binutils makes of each line; a label before each keeps them apart."""
    source, obj, image = (folder / name for name in ("t.s", "t.o", "t.bin"))
    text = [".option norelax", ".option norvc"]
    for line in lines:
        text += [
            ".option rvc" if line.startswith("c.") else ".option norvc",
            "nop" if not line else line,
            ".option norvc",
        ]
        text.append(".word 0x0010006b")  # a mark that no case holds
    source.write_text("\n".join(text) + "\n")
    subprocess.run([BINUTILS + "as", f"-march={MARCH}", "-o", obj, source], check=True)
    subprocess.run([BINUTILS + "objcopy", "-O", "binary", "-j", ".text", obj, image], check=True)
    return image.read_bytes().split(bytes.fromhex("6b001000"))[:-1]


def external_syntax(line: str) -> str | None:
    """A case's line as binutils writes it; None for what it does not know."""
    name = line.split()[0]
    if name.startswith("czero"):  # newer than the binutils of Debian 12
        registers = [part.strip() for part in line.split(None, 1)[1].split(",")]
        return f".insn r 0x33, {5 if name == 'czero.eqz' else 7}, 7, {', '.join(registers)}"
    if re.search(r", [56]$", line):  # a reserved rounding mode
        return None
    if name.startswith(".half"):
        return line.replace(".half", ".2byte")
    if name.startswith(("beq", "bne", "blt", "bge", "jal", "c.j", "c.b")) and not name.startswith(
        ("jalr", "c.jalr", "c.jr")
    ):
        head, _, last = line.rpartition(" ")
        return f"{head} .+({last})"
    if name == "fence":
        return "fence"
    if re.fullmatch(r"c\.(slli|srli) +x\d+, 0|c\.addi +x0, .*|c\.addi .*, 0", line):
        return None  # hints that binutils does not write with these mnemonics
    if name == "c.lui":
        return (
            line
            if not re.search(r"-\d", line)
            else re.sub(r"-(\d+)", lambda m: hex(0x100000 - int(m[1])), line)
        )
    return line


@needs_binutils
def test_every_case_is_encoded_as_binutils_does(tmp_path: Path) -> None:
    texts = sorted({case.text for chapter in chapters() for case in load_cases(chapter)})
    lines = [(text, external_syntax(text)) for text in texts]
    known = [(text, line) for text, line in lines if line is not None]
    found = assemble_externally([line for _, line in known], tmp_path)
    assert len(found) == len(known)
    wrong = {
        text: (assemble(text).hex(), other.hex())
        for (text, _), other in zip(known, found, strict=True)
        if assemble(text) != other
    }
    assert not wrong
    assert len(lines) - len(known) < 15


# -- disassembly

NUMBER = re.compile(r"(?<![\w.])-?(?:0x[0-9a-f]+|\d+)\b(?![\w.])")


def normal(text: str) -> tuple[str, str]:
    """Mnemonic and operands, numbers in one notation, without blanks and comments."""
    name, _, rest = text.replace("\t", " ").partition(" ")
    rest = rest.partition("#")[0].partition("<")[0].replace(" ", "")
    return name, NUMBER.sub(lambda match: str(int(match[0], 0)), rest)


def in_full(leaf: Leaf, encoding: int) -> str:
    """Our disassembly without other names, as binutils and capstone write it: the name of a short
    form, with its own operands; a rounding mode last, and not if it is the usual one.
    """
    insn, short = leaf.insn, leaf.short
    values = short.expand(encoding) if short else insn.values(encoding)
    name, shown = insn.name, [operand.name for operand in insn.operands]
    if name == "csrr":
        name, shown = "csrrs", [*shown, "zero"]
    if short:
        name, seen = short.name, set[str | int | tuple[str, int]]()
        for operand in insn.operands:
            source = short.operands[operand.name]
            if source in seen or (isinstance(source, int) and (source == 0 or operand.written)):
                shown.remove(operand.name)
            else:
                seen.add(source)
    text = insn.in_notation(name, shown, values, 0)
    name, parts = text.mnemonic.replace(".aq.rl", ".aqrl"), text.operands.split(",")
    if "rm" in shown:
        parts = parts[1:] + [part for part in parts[:1] if part != "dyn"]
    if name == "jalr":
        parts = [parts[0], f"{parts[2]}({parts[1]})"]
    if insn.name in ("lui", "auipc"):
        parts[1] = hex(int(parts[1]) >> 12 & 0xF_FFFF)
    return f"{name} {','.join(parts)}"


PSEUDO = frozenset(
    "mv not neg negw sext.w seqz snez sltz sgtz beqz bnez blez bgez bltz bgtz j jr ret nop "
    "rdinstret rdcycle rdtime csrr csrw csrs csrc csrwi csrsi csrci fmv.s fabs.s fneg.s fmv.d "
    "fabs.d fneg.d frcsr fscsr frrm fsrm frflags "
    "fsflags unimp".split()
)
"""What capstone prints for some operands of other instructions."""
EXACT = ("fcvt.d.s", "fcvt.d.w", "fcvt.d.wu")


def differs(ours: str, theirs: str) -> bool:
    name, operands = normal(ours)
    other, others = normal(theirs)
    if other in ("unimp", ".4byte", ".2byte", ".insn", "") or other == "c.unimp":
        return True
    if name in EXACT:  # nothing to round: external tools differ in whether they show a mode
        operands, others = (text.removesuffix(",rne") for text in (operands, others))
    return name != other or operands != others


@needs_binutils
def test_every_row_is_disassembled_as_objdump_does(tmp_path: Path) -> None:
    wrong, names = [], set()
    source = random.Random(7)
    generator = Generator(source)
    samples = []
    for leaf in rows(lambda leaf: not leaf.insn.name.startswith(("czero", "fence", "prefetch"))):
        samples += [(leaf, generator.encode(leaf)) for _ in range(12)]
    text = "".join(
        f".insn {len(code)}, {int.from_bytes(code, 'little'):#x}\n" + "c.nop\n" * (len(code) == 2)
        for _, code in samples
    )
    obj = str(tmp_path / "t.o")
    command = [BINUTILS + "as", f"-march={MARCH}", "-o", obj, "-"]
    subprocess.run(command, input=text, text=True, check=True)
    command = [BINUTILS + "objdump", "-d", "-M", "no-aliases", "-z", obj]
    shown: dict[int, str] = {}
    for line in subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t[0-9a-f ]+\t(.*)", line)
        if match:
            shown[int(match[1], 16)] = match[2]
    for index, (leaf, code) in enumerate(samples):
        encoding, at = int.from_bytes(code, "little"), index * 4
        found = DECODER.find(encoding, len(code) * 8, lambda name: True)
        assert found is not None, name_of(leaf)
        if beyond(found, encoding):
            continue
        ours = in_full(found, encoding)
        theirs = shown.get(at, "")
        names.add(name_of(found))
        if relative(found):
            target = re.search(r"([0-9a-f]+)(?: <.*)?$", theirs)
            assert target is not None
            away = (int(target[1], 16) - at + (1 << 63)) % (1 << 64) - (1 << 63)
            theirs = f"{theirs[: target.start()]}{away}"
        if differs(ours, theirs):
            wrong.append(f"{encoding:0{len(code) * 2}x}: {ours!r} {theirs!r}")
    assert not wrong, "\n".join(wrong[:60]) + f"\n{len(wrong)}"
    assert len(names) > 240


def beyond(leaf: Leaf, encoding: int) -> bool:
    """Whether the external tools do not print it as an instruction, or by another name: reserved
    rounding modes, a rounding mode for what never rounds, CSRs that we do not have.
    """
    fields = leaf.insn.decode(encoding) if leaf.short is None else {}
    mode = fields.get("rm", 0)
    exact = leaf.insn.name in EXACT and mode != 0
    return mode in (5, 6) or exact or fields.get("csr", 1) not in CSRS


def relative(leaf: Leaf) -> bool:
    """Whether the last operand is the displacement of a jump."""
    return any(operand.kind.pc_relative for operand in leaf.insn.operands)


def test_every_row_is_disassembled_as_capstone_does() -> None:
    capstone = pytest.importorskip("capstone")
    machine = capstone.Cs(
        capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC
    )
    generator = Generator(random.Random(11))
    wrong, names = [], set()
    for leaf in rows(lambda leaf: set(leaf.extensions) <= set("imafdc")):
        for _ in range(12):
            code = generator.encode(leaf)
            encoding = int.from_bytes(code, "little")
            found = DECODER.find(encoding, len(code) * 8, lambda name: True)
            assert found is not None
            shown = next(machine.disasm(code, 0), None)
            if beyond(found, encoding) or shown is None or shown.mnemonic in PSEUDO:
                continue
            if shown.mnemonic in ("jal", "jalr"):
                continue  # capstone leaves ra out, or writes the operands in the old order
            names.add(name_of(found))
            ours = in_full(found, encoding)
            theirs = f"{shown.mnemonic} {shown.op_str}"
            if differs(ours, theirs):
                wrong.append(f"{code.hex()}: {ours!r} {theirs!r}")
    assert not wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)}"
    assert len(names) > 150

"""Disassembly as the monitor and the log show it: every row against QEMU, line by line."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ratite.cpu.riscv_inspect import disassemble
from ratite.isa.decoder import Leaf
from ratite.isa.riscv.csr import CSRS
from tests.isa.assembler import assemble, insert
from tests.isa.streams import name_of, rows

QEMU = "qemu-system-riscv64"
START = 0x8000_0000
REGISTERS = (0, 0, 1, 2, 10)
NUMBERS = (0, 0, 1, -1, 2, -2, 4)
CSR_NUMBERS = (1, 2, 3, *CSRS)

# Where QEMU 7.2 says something else: words that begin the text of each, and why.
NEWER = "illegal|lq|ori"
DIFFERENCES = (
    # Instructions that QEMU 7.2 does not know, or knows as something older.
    ("cbo.*|prefetch.*|wrs.*|sfence.*inval.*|sinval.vma|czero.*", NEWER),
    # It knows them by names that the specification has given up.
    (r"fmv\.(w\.x|x\.w)", r"fmv\.(s\.x|x\.s)"),
    # It leaves an operand out, names integer registers, or names another instruction.
    ("andn|orn|xnor", "andn|orn|xnor"),
    (r"(fmv|fneg|fabs)\.[sd]", r"(fmv|fneg|fabs)\.[sd]"),
    ("slli.uw", "slli.uw|illegal"),
    ("ctzw", "clzw"),
    ("jalr", "ret"),  # it takes any jump to an address near ra for a return
    # CSRs that it does not know, or by older names.
    ("csrr.*", "csrr.*"),
    # Hints, which do nothing, and what a hart refuses (the short forms of which rd is 0).
    ("mv|addi|slli|lui", "illegal"),
    ("illegal", "sext.w|addiw|jr|ld|lw"),
    ("mv", "add"),  # `c.mv` is `add` with x0; it tells that from one of 32 bits
)


def line(code: bytes, gva: int = START) -> str:
    """The line for one instruction."""
    found = disassemble(code, gva, lambda extension: True)
    assert found is not None
    return found.line(gva)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lw x10, 8(x11)", "lw                      a0,8(a1)"),
        ("sd x1, -8(x2)", "sd                      ra,-8(sp)"),
        ("addi x0, x0, 0", "nop                     "),
        ("addi x10, x11, 0", "mv                      a0,a1"),
        ("addi x10, x0, 1", "addi                    a0,zero,1"),
        ("xori x5, x6, -1", "not                     t0,t1"),
        ("lui x10, 0xfffff", "lui                     a0,-4096"),
        ("auipc x10, 1", "auipc                   a0,4096                 # 0x80001000"),
        ("jal x0, -4", "j                       -4                      # 0x7ffffffc"),
        ("jal x1, 12", "jal                     ra,12                   # 0x8000000c"),
        ("jalr x0, 0(x1)", "ret                     "),
        ("jalr x0, 0(x5)", "jr                      t0"),
        ("jalr x1, 4(x5)", "jalr                    ra,t0,4"),
        ("beq x10, x0, 16", "beqz                    a0,16                   # 0x80000010"),
        ("bgeu x10, x11, 16", "bleu                    a1,a0,16                # 0x80000010"),
        ("c.li x10, 1", "addi                    a0,zero,1"),
        ("c.jr x1", "ret                     "),
        ("c.lwsp x10, 4(x2)", "lw                      a0,4(sp)"),
        ("csrrs x10, mhartid, x0", "csrrs                   a0,mhartid,zero"),
        ("csrrs x10, time, x0", "rdtime                  a0"),
        ("csrrw x0, fcsr, x10", "fscsr                   zero,a0"),
        ("amoadd.w.aqrl x10, x11, (x12)", "amoadd.w.aq.rl          a0,a1,(a2)"),
        ("fadd.d f10, f11, f12", "fadd.d                  dyn,fa0,fa1,fa2"),
        ("fsgnjx.s f10, f11, f11", "fabs.s                  fa0,fa1"),
        ("fence", "fence                   iorw,iorw"),
        (".word 0xffffffff", "illegal                 "),
        (".half 0", "illegal                 "),
    ],
)
def test_a_line(text: str, shown: str) -> None:
    code = assemble(text)
    digits = f"{int.from_bytes(code, 'little'):0{2 * len(code)}x}"
    assert line(code) == f"0x0000000080000000:  {digits:<18}{shown}"


def samples(leaf: Leaf, source: random.Random) -> set[bytes]:
    """Encodings of a row, of which many have another name."""
    pattern, found = leaf.pattern, set()
    for _ in range(60):
        fields = {}
        for field in pattern.fields:
            width = pattern.top(field)
            few: tuple[int, ...] = ()
            if field == "csr":
                few = CSR_NUMBERS
            elif field == "imm":
                few = NUMBERS
            elif field.startswith("r") and width == 5:
                few = REGISTERS
            common = few and (field == "csr" or source.random() < 0.6)
            fields[field] = source.choice(few) if common else source.getrandbits(width)
        if "rs2" in fields and source.random() < 0.2:
            fields["rs2"] = fields.get("rs1", 0)
        found.add(insert(pattern, fields).to_bytes(pattern.width // 8, "little"))
    return found


def shown_by_qemu(codes: list[bytes], folder: Path) -> list[str]:
    """QEMU's lines for instructions that follow each other from `START` on."""
    image = folder / "code.bin"
    image.write_bytes(b"".join(codes) + bytes(16))
    command = [QEMU, *"-M virt -bios none -nodefaults -display none -S -qmp stdio".split()]
    command += ["-device", f"loader,file={image},addr={START:#x},force-raw=on"]
    show = {"command-line": f"xp/{len(codes)}i {START:#x}"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None and qemu.stdout is not None
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}\n')
        request = {"execute": "human-monitor-command", "arguments": show, "id": 1}
        qemu.stdin.write(json.dumps(request).encode() + b"\n")
        qemu.stdin.flush()
        answers = (json.loads(line) for line in qemu.stdout)
        text: str = next(answer["return"] for answer in answers if answer.get("id") == 1)
        qemu.stdin.write(b'{"execute": "quit"}\n')
    return text.replace("\r", "").splitlines()


def explained(ours: str, theirs: str) -> bool:
    names = (ours.split()[2], theirs.split()[2])
    return any(
        all(re.fullmatch(name, text) for name, text in zip(pair, names, strict=True))
        for pair in DIFFERENCES
    )


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"needs {QEMU}")
def test_every_row_is_shown_as_qemu_does(tmp_path: Path) -> None:
    source = random.Random(3)
    leaves = rows(lambda leaf: True)
    codes = [code for leaf in leaves for code in sorted(samples(leaf, source))]
    theirs = shown_by_qemu(codes, tmp_path)
    assert len(theirs) == len(codes)
    wrong, names, gva = [], set(), START
    for code, wanted in zip(codes, theirs, strict=True):
        shown = line(code, gva)
        if shown == wanted:
            names.add(wanted.split()[2])
        elif not explained(shown, wanted):
            wrong.append(f"{shown}\n{wanted}")
        gva += len(code)
    assert not wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)}"
    assert len(names) > 200, "too little was the same"
    assert len({name_of(leaf) for leaf in leaves}) > 240

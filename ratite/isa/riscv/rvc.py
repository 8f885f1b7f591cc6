"""C extension: 16-bit forms (Unprivileged ISA 20240411, chapter 28).

Each expands to an instruction of 32 bits and has no semantics of its own. Register fields of three
bits name x8 to x15.
"""

from __future__ import annotations

from ratite.isa.riscv.state import RISCV

short = RISCV.short
RA, SP, ZERO = 1, 2, 0
RD, RS1, RS2 = ("rd", 8), ("rs1", 8), ("rs2", 8)

# -- quadrant 0 (28.3, 28.5)
short(
    "c.addi4spn",
    "000 imm[5:4|9:6|2|3] rd[2:0] 00",
    "addi",
    {"rd": RD, "rs1": SP, "imm": "imm"},
    spec="unpriv 28.5",
    nonzero=("imm",),
)
short(
    "c.fld",
    "001 imm[5:3] rs1[2:0] imm[7:6] rd[2:0] 00",
    "fld",
    {"rd": RD, "rs1": RS1, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.lw",
    "010 imm[5:3] rs1[2:0] imm[2|6] rd[2:0] 00",
    "lw",
    {"rd": RD, "rs1": RS1, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.ld",
    "011 imm[5:3] rs1[2:0] imm[7:6] rd[2:0] 00",
    "ld",
    {"rd": RD, "rs1": RS1, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.fsd",
    "101 imm[5:3] rs1[2:0] imm[7:6] rs2[2:0] 00",
    "fsd",
    {"rs1": RS1, "rs2": RS2, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.sw",
    "110 imm[5:3] rs1[2:0] imm[2|6] rs2[2:0] 00",
    "sw",
    {"rs1": RS1, "rs2": RS2, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.sd",
    "111 imm[5:3] rs1[2:0] imm[7:6] rs2[2:0] 00",
    "sd",
    {"rs1": RS1, "rs2": RS2, "imm": "imm"},
    spec="unpriv 28.3",
)

# -- quadrant 1 (28.4, 28.5)
short(
    "c.addi",
    "000 imm[5] rd[4:0] imm[4:0] 01",
    "addi",
    {"rd": "rd", "rs1": "rd", "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
)
short(
    "c.addiw",
    "001 imm[5] rd[4:0] imm[4:0] 01",
    "addiw",
    {"rd": "rd", "rs1": "rd", "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
    nonzero=("rd",),
)
short(
    "c.li",
    "010 imm[5] rd[4:0] imm[4:0] 01",
    "addi",
    {"rd": "rd", "rs1": ZERO, "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
)
short(
    "c.addi16sp",
    "011 imm[9] 00010 imm[4|6|8:7|5] 01",
    "addi",
    {"rd": SP, "rs1": SP, "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
    nonzero=("imm",),
)
short(
    "c.lui",
    "011 imm[17] rd[4:0] imm[16:12] 01",
    "lui",
    {"rd": "rd", "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
    nonzero=("imm",),
)
short(
    "c.srli",
    "100 shamt[5] 00 rd[2:0] shamt[4:0] 01",
    "srli",
    {"rd": RD, "rs1": RD, "shamt": "shamt"},
    spec="unpriv 28.5",
)
short(
    "c.srai",
    "100 shamt[5] 01 rd[2:0] shamt[4:0] 01",
    "srai",
    {"rd": RD, "rs1": RD, "shamt": "shamt"},
    spec="unpriv 28.5",
)
short(
    "c.andi",
    "100 imm[5] 10 rd[2:0] imm[4:0] 01",
    "andi",
    {"rd": RD, "rs1": RD, "imm": "imm"},
    spec="unpriv 28.5",
    signed=("imm",),
)
for _name, _high, _low in (
    ("sub", "0", "00"),
    ("xor", "0", "01"),
    ("or", "0", "10"),
    ("and", "0", "11"),
    ("subw", "1", "00"),
    ("addw", "1", "01"),
):
    short(
        f"c.{_name}",
        f"100 {_high} 11 rd[2:0] {_low} rs2[2:0] 01",
        _name,
        {"rd": RD, "rs1": RD, "rs2": RS2},
        spec="unpriv 28.5",
    )
short(
    "c.j",
    "101 imm[11|4|9:8|10|6|7|3:1|5] 01",
    "jal",
    {"rd": ZERO, "imm": "imm"},
    spec="unpriv 28.4",
    signed=("imm",),
)
short(
    "c.beqz",
    "110 imm[8|4:3] rs1[2:0] imm[7:6|2:1|5] 01",
    "beq",
    {"rs1": RS1, "rs2": ZERO, "imm": "imm"},
    spec="unpriv 28.4",
    signed=("imm",),
)
short(
    "c.bnez",
    "111 imm[8|4:3] rs1[2:0] imm[7:6|2:1|5] 01",
    "bne",
    {"rs1": RS1, "rs2": ZERO, "imm": "imm"},
    spec="unpriv 28.4",
    signed=("imm",),
)

# -- quadrant 2 (28.3 to 28.5)
short(
    "c.slli",
    "000 shamt[5] rd[4:0] shamt[4:0] 10",
    "slli",
    {"rd": "rd", "rs1": "rd", "shamt": "shamt"},
    spec="unpriv 28.5",
)
short(
    "c.fldsp",
    "001 imm[5] rd[4:0] imm[4:3|8:6] 10",
    "fld",
    {"rd": "rd", "rs1": SP, "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.lwsp",
    "010 imm[5] rd[4:0] imm[4:2|7:6] 10",
    "lw",
    {"rd": "rd", "rs1": SP, "imm": "imm"},
    spec="unpriv 28.3",
    nonzero=("rd",),
)
short(
    "c.ldsp",
    "011 imm[5] rd[4:0] imm[4:3|8:6] 10",
    "ld",
    {"rd": "rd", "rs1": SP, "imm": "imm"},
    spec="unpriv 28.3",
    nonzero=("rd",),
)
short("c.ebreak", "100 1 00000 00000 10", "ebreak", {}, spec="unpriv 28.5")
short(
    "c.jr",
    "100 0 rs1[4:0] 00000 10",
    "jalr",
    {"rd": ZERO, "rs1": "rs1", "imm": 0},
    spec="unpriv 28.4",
    nonzero=("rs1",),
)
short(
    "c.jalr",
    "100 1 rs1[4:0] 00000 10",
    "jalr",
    {"rd": RA, "rs1": "rs1", "imm": 0},
    spec="unpriv 28.4",
    nonzero=("rs1",),
)
short(
    "c.mv",
    "100 0 rd[4:0] rs2[4:0] 10",
    "add",
    {"rd": "rd", "rs1": ZERO, "rs2": "rs2"},
    spec="unpriv 28.5",
    nonzero=("rs2",),
)
short(
    "c.add",
    "100 1 rd[4:0] rs2[4:0] 10",
    "add",
    {"rd": "rd", "rs1": "rd", "rs2": "rs2"},
    spec="unpriv 28.5",
    nonzero=("rs2",),
)
short(
    "c.fsdsp",
    "101 imm[5:3|8:6] rs2[4:0] 10",
    "fsd",
    {"rs1": SP, "rs2": "rs2", "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.swsp",
    "110 imm[5:2|7:6] rs2[4:0] 10",
    "sw",
    {"rs1": SP, "rs2": "rs2", "imm": "imm"},
    spec="unpriv 28.3",
)
short(
    "c.sdsp",
    "111 imm[5:3|8:6] rs2[4:0] 10",
    "sd",
    {"rs1": SP, "rs2": "rs2", "imm": "imm"},
    spec="unpriv 28.3",
)

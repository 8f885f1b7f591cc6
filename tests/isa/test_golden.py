"""What chosen loops become: a loss of quality is seen without a clock.

The text for LLVM is the same everywhere, and its operations are counted exactly. Host instructions
depend on the host and on LLVM's version, so that they have a bound, a little above what was seen.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping

import pytest

from ratite.accel.jit.compiler import FULL, QUICK
from ratite.accel.jit.engine import JitMachine
from ratite.core.log import Log, LogCategory
from ratite.isa.riscv import Hart
from ratite.memory import AddressSpace, RamList
from ratite.native import u64
from tests.isa.assembler import program
from tests.isa.harness import CODE, OPTIONS, Cpu, Executor

FILL = "sd x0, 0(x2)\naddi x2, x2, 8\nbne x2, x3, -8\njal x0, 0"
COPY = "lbu x5, 0(x2)\naddi x2, x2, 1\nsb x5, 0(x4)\naddi x4, x4, 1\nbne x5, x0, -16\njal x0, 0"
FRAME = (
    "addi x2, x2, -32\nsd x1, 24(x2)\nsd x8, 16(x2)\nsd x9, 8(x2)\nld x1, 24(x2)\nld x8, 16(x2)\n"
    "ld x9, 8(x2)\naddi x2, x2, 32\naddi x3, x3, -1\nbne x3, x0, -36\njal x0, 0"
)
DOT = (
    "fld f1, 0(x2)\nfld f2, 0(x4)\nfmul.d f1, f1, f2\nfadd.d f3, f3, f1\naddi x2, x2, 8\n"
    "addi x4, x4, 8\naddi x3, x3, -1\nbne x3, x0, -28\njal x0, 0"
)
ROTATE = (
    "srliw x5, x2, 7\nslliw x6, x2, 25\nor x5, x5, x6\nxor x2, x2, x5\naddi x3, x3, -1\n"
    "bne x3, x0, -20\njal x0, 0"
)
LOOPS = {"fill": FILL, "copy": COPY, "frame": FRAME, "dot": DOT, "rotate": ROTATE}

OPERATIONS = ("load", "store", "br", "call", "icmp", "phi")


def compiled(loop: str, level: int) -> tuple[Counter[str], int]:
    """Operations in LLVM's text, and host instructions, of the region of a loop."""
    stream = io.StringIO()

    def attach(hart: Hart, ram: RamList, space: AddressSpace) -> Cpu:
        log = Log(LogCategory.LLVM | LogCategory.OUT_ASM, stream)
        return JitMachine("riscv", ram, space, OPTIONS, log).attach(hart)

    guest = Executor("golden", attach)
    guest.reset()
    hart = guest.hart
    hart.x[2], hart.x[3], hart.x[4] = u64(0x5000), u64(0x5100), u64(0x6000)
    guest.load(CODE, program(LOOPS[loop]))
    guest.run(60)
    assert isinstance(guest.machine, JitMachine)
    guest.machine.compile_all(level=level)
    _, text, listing = re.split(r"^(?:LLVM|OUT): region 0x1000,.*$", stream.getvalue(), flags=re.M)[
        :3
    ]
    body = text[text.index("define preserve_nonecc") :]
    words = re.findall(r"^  (?:%\S+ = )?(?:musttail )?(\w+)", body, flags=re.M)
    operations = Counter(word for word in words if word in OPERATIONS)
    listing = listing[listing.index("region:") : listing.index(".size")]
    host = re.findall(r"^\t[a-z]\w*", listing, flags=re.M)
    guest.machine.close()
    return operations, len(host)


EXPECTED: dict[tuple[str, int], tuple[Mapping[str, int], int]] = {
    ("fill", QUICK): ({"br": 12, "call": 5, "icmp": 6, "load": 21, "store": 11}, 69),
    ("fill", FULL): ({"br": 28, "call": 3, "icmp": 14, "load": 37, "store": 37}, 106),
    ("copy", QUICK): ({"br": 20, "call": 6, "icmp": 10, "load": 31, "phi": 1, "store": 20}, 126),
    ("copy", FULL): ({"br": 37, "call": 3, "icmp": 21, "load": 54, "store": 56}, 185),
    ("frame", QUICK): ({"br": 11, "call": 4, "icmp": 5, "load": 30, "store": 27}, 80),
    ("frame", FULL): ({"br": 28, "call": 3, "icmp": 13, "load": 56, "store": 58}, 120),
    ("dot", QUICK): ({"br": 23, "call": 10, "icmp": 10, "load": 36, "phi": 4, "store": 29}, 136),
    ("dot", FULL): ({"br": 36, "call": 7, "icmp": 29, "load": 68, "store": 69}, 280),
    ("rotate", QUICK): ({"br": 9, "call": 4, "icmp": 4, "load": 19, "store": 18}, 49),
    ("rotate", FULL): ({"br": 12, "call": 4, "icmp": 4, "load": 23, "store": 24}, 51),
}


@pytest.mark.parametrize("level", [QUICK, FULL])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_is_no_worse_than_it_was(loop: str, level: int) -> None:
    operations, host = compiled(loop, level)
    expected, bound = EXPECTED[loop, level]
    assert operations == expected
    assert host <= bound

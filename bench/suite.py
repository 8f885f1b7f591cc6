"""The compute programs: compiled for the bare `virt` board and for the host."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.side_by_side import BenchError, Plan

SOURCES = Path(__file__).parent / "programs"
RUNTIME = SOURCES / "runtime"
CROSS, NATIVE = "riscv64-linux-gnu-gcc", "gcc"

# Results must not depend on the machine (no contraction to fused operations), and loops must stay
# loops rather than become calls of the C library.
COMMON = (
    "-O2 -ffreestanding -ffp-contract=off -fno-math-errno -fno-tree-loop-distribute-patterns"
).split()
BARE = "-march=rv64gc -mabi=lp64d -mcmodel=medany -nostdlib -static".split()
LINK = "-Wl,-N,--no-warn-rwx-segments,--build-id=none,-T"


@dataclass(frozen=True, slots=True)
class Program:
    """One program in both forms."""

    name: str
    bare: Path  # ELF, at the start of RAM in machine mode
    native: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program prints at the end of a phase."""

    checksum: str
    seconds: float
    instructions: int  # 0 where nobody counts

    @classmethod
    def parse(cls, output: str) -> Outcome:
        """Read the last line."""
        return cls.parse_all(output, 1)[0]

    @classmethod
    def parse_all(cls, output: str, phases: int) -> list[Outcome]:
        """Read the last lines: checksum, ticks of 100 ns, instructions, in hexadecimal."""
        words = output.split()[-3 * phases :]
        if len(words) != 3 * phases:
            raise BenchError(f"no result but {output[-200:]!r}")
        return [
            cls(words[at], int(words[at + 1], 16) / 1e7, int(words[at + 2], 16))
            for at in range(0, len(words), 3)
        ]


def build(plan: Plan) -> list[Program]:
    """Compile what is not compiled yet or has changed."""
    for compiler in (CROSS, NATIVE):
        if shutil.which(compiler) is None:
            raise BenchError(f"no {compiler}: apt install gcc gcc-riscv64-linux-gnu")
    directory = plan.work / "programs" / str(plan.rounds)
    directory.mkdir(parents=True, exist_ok=True)
    programs = []
    for source in sorted(SOURCES.glob("*.c")):
        if plan.only and source.stem not in plan.only:
            continue
        program = Program(source.stem, directory / f"{source.stem}.elf", directory / source.stem)
        start = [RUNTIME / "start.S", RUNTIME / "bare.c"]
        rounds = f"-DBENCH_PHASES={plan.rounds}"
        _compile(
            [CROSS, rounds, *COMMON, *BARE, f"{LINK},{RUNTIME / 'bare.ld'}"], start, program.bare
        )
        _compile([NATIVE, rounds, *COMMON], [RUNTIME / "native.c"], program.native)
        programs.append(program)
    missing = set(plan.only) - {program.name for program in programs}
    if missing:
        raise BenchError(f"no program {', '.join(sorted(missing))}")
    return programs


def _compile(command: list[str], runtime: list[Path], output: Path) -> None:
    source = SOURCES / f"{output.stem}.c"
    inputs = [source, *SOURCES.glob("*.h"), *RUNTIME.iterdir(), Path(__file__)]
    if output.exists() and output.stat().st_mtime > max(i.stat().st_mtime for i in inputs):
        return
    subprocess.run([*command, f"-I{RUNTIME}", "-o", output, *runtime, source], check=True)

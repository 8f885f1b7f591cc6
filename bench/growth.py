"""How time and memory grow: with the size of the guest's code, with the number of harts, with the
guest's working set. Bare programs, each in several sizes, everything cold.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.generated_code import generate
from bench.report import Section
from bench.side_by_side import BenchError, Plan, alternate, have_qemu, qemu, ratite
from bench.suite import BARE, COMMON, CROSS, LINK, NATIVE, RUNTIME, SOURCES, Outcome

PROGRAMS = SOURCES / "growth"
CODE_SIZES = (10_000, 100_000, 1_000_000)
CODE_TOTAL = 400_000_000
"""Instructions executed, whatever the size."""
HARTS = (1, 2, 4)
SETS = (64 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20)
LARGE = 4 << 20
"""From here on the host's caches miss, and a round takes long."""
LOADS = 1 << 20
BOARD = "-M virt -m 512M -bios none -display none -serial stdio".split()
Start = Callable[..., list[str]]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program, phase by phase."""

    phases: tuple[Outcome, ...]
    peak_mib: float  # resident, guest RAM included


@dataclass(frozen=True, slots=True)
class Program:
    """A program in one of its sizes."""

    name: str
    tag: str
    macros: Mapping[str, str]
    phases: tuple[int, ...]  # calls of its work

    def build(self, plan: Plan, *, native: bool = False) -> Path:
        """Compile it, for the bare board or for the host."""
        output = plan.work / "programs" / f"growth-{self.name}-{self.tag}{'' if native else '.elf'}"
        output.parent.mkdir(parents=True, exist_ok=True)
        runtime = [RUNTIME / "native.c"] if native else self._bare_runtime()
        compiler = [NATIVE, "-mcmodel=medium"] if native else [CROSS, *BARE, LINK_SCRIPT]
        phases = ",".join(map(str, self.phases))
        defines = [f"-D{key}={value}" for key, value in self.macros.items()]
        defines += [f"-DBENCH_PHASES={phases}", f"-I{RUNTIME}"]
        sources = [*runtime, PROGRAMS / f"{self.name}.c"]
        command = [*compiler, *COMMON, *defines, "-o", output, *sources]
        subprocess.run([str(word) for word in command], check=True)
        return output

    def _bare_runtime(self) -> list[Path]:
        assembly = PROGRAMS / f"{self.name}.S"
        own = [assembly] if assembly.exists() else []
        has_start = own and "_start" in assembly.read_text(encoding="ascii")
        return [*own, *([] if has_start else [RUNTIME / "start.S"]), RUNTIME / "bare.c"]


LINK_SCRIPT = f"{LINK},{RUNTIME / 'bare.ld'}"


def measure(plan: Plan) -> Sequence[Section]:
    """All three."""
    return code_growth(plan), hart_growth(plan), memory_growth(plan)


def emulators() -> dict[str, Start]:
    """Who runs bare programs, and how: given the program and further options."""

    def of_qemu(program: Path, *more: object) -> list[str]:
        return qemu(*BOARD, *more, "-kernel", program)

    def of_ratite(program: Path, *more: object) -> list[str]:
        return ratite(*BOARD, "-accel", "tcg,cache=off", *more, "-kernel", program)

    return {**({"QEMU": of_qemu} if have_qemu() else {}), "ratite": of_ratite}


def everywhere(plan: Plan, program: Program, *options: object) -> dict[str, list[Run]]:
    """A program's runs on each emulator, in turn. They must have computed the same."""
    built, count = program.build(plan), len(program.phases)

    def runner(start: Start) -> Callable[[], Run]:
        return lambda: run(start(built, *options), count)

    plan.console.print(f"{program.name} {program.tag}")
    found = alternate(plan, {name: runner(start) for name, start in emulators().items()})
    sums = {phase.checksum for runs in found.values() for one in runs for phase in one.phases[-1:]}
    if len(sums) != 1:
        raise BenchError(f"{program.name} {program.tag}: the results differ: {sums}")
    return found


def run(command: list[str], phases: int) -> Run:
    """Run a program to its end; it must succeed."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read().decode("utf-8", "replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(command)}: {said[-400:]}")
    return Run(tuple(Outcome.parse_all(said, phases)), usage.ru_maxrss / 1024)


def seconds(runs: Sequence[Run], phase: int) -> float:
    """The median time of a phase."""
    return median(one.phases[phase].seconds for one in runs)


def peaks(found: Mapping[str, Sequence[Run]]) -> list[str]:
    """Cells: the median memory of each contestant."""
    return [f"{median(one.peak_mib for one in runs):.0f}" for runs in found.values()]


# -- tables


def code_growth(plan: Plan) -> Section:
    """More and more instructions, each executed for the first time, a few times, and then often."""
    rows = []
    for size in CODE_SIZES:
        blob = plan.work / "programs" / f"code{size}.bin"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(generate(size))
        phases = (1, 19, CODE_TOTAL // size - 20)
        program = Program("code", str(size), {"CODE": f'"{blob}"'}, phases)
        found = everywhere(plan, program)
        cells = [
            f"{seconds(runs, phase) / rounds / size * 1e9:.1f}"
            for phase, rounds in enumerate(phases)
            for runs in found.values()
        ]
        rows.append([f"{size:,}", *cells, *peaks(found)])
    steps = ("first", "to 20th", "later")
    columns = [f"{step}, {name}" for step in steps for name in emulators()]
    return Section(
        "Growth with the guest's code",
        ["instructions", *columns, *(f"{name} MiB" for name in emulators())],
        rows,
        (
            f"median of {plan.runs}; ns per instruction of generated code, executed from one end "
            f"to the other until {CODE_TOTAL // 1_000_000} million are done: the first round, the "
            "rounds to the twentieth, all later ones; every eighth instruction a branch; cold",
            "MiB: peak resident size of the process, with what the guest has touched of its RAM",
        ),
    )


def hart_growth(plan: Plan) -> Section:
    """The same work on each of more and more harts."""
    rows = []
    for title, shared in (("own memory", 0), ("one lock", 1)):
        for harts in HARTS:
            macros = {"HARTS": str(harts), "SHARED": str(shared)}
            program = Program("harts", f"{harts}-{shared}", macros, (3,))
            found = everywhere(plan, program, "-smp", harts)
            time = {name: seconds(runs, 0) for name, runs in found.items()}
            ratio = f"{time['QEMU'] / time['ratite']:.2f}" if "QEMU" in time else "-"
            cells = [*(f"{value:.2f}" for value in time.values()), ratio]
            rows.append([f"{harts}, {title}", *cells, *peaks(found)])
    times = [f"{name} s" for name in emulators()]
    return Section(
        "Growth with the harts",
        ["harts", *times, "QEMU / ratite", *(f"{name} MiB" for name in emulators())],
        rows,
        (
            f"median of {plan.runs}; each hart does the same work, so that the time stays the same "
            "as long as the host has a free CPU for each; cold",
            "one lock: each hart takes a spin lock twelve million times and counts under it",
        ),
    )


def memory_growth(plan: Plan) -> Section:
    """The same number of loads from more and more memory."""
    rows = []
    for size in SETS:
        cells = []
        for pattern in (0, 1):
            macros = {"SET": str(size), "PATTERN": str(pattern)}
            # The cycle is made; the loop gets hot; it is measured.
            phases = (1, 4, 4) if pattern == 0 and size > LARGE else (1, 60, 40)
            program = Program("memory", f"{size >> 10}-{pattern}", macros, phases)
            native = program.build(plan, native=True)
            on_host = [run([str(native)], len(phases)) for _ in range(plan.runs)]
            for runs in (on_host, *everywhere(plan, program).values()):
                cells.append(f"{seconds(runs, 2) / phases[2] / LOADS * 1e9:.1f}")
        rows.append([_size(size), *cells])
    names = ["native", *emulators()]
    return Section(
        "Growth with the working set",
        ["working set", *(f"{kind}, {name}" for kind in ("cycle", "lines") for name in names)],
        rows,
        (
            f"median of {plan.runs}; ns per load, one hart in machine mode",
            "cycle: each load gives the address of the next, at random among the cache lines; "
            "lines: one cache line after another",
        ),
    )


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"

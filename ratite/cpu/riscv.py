"""RISC-V harts as QOM objects: CPU models with their properties, reset, interrupt pins, and the
timer of Sstc.

Source: RISC-V Privileged ISA 20240411; property and model names are QEMU's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from ratite.core.clock import Clock
from ratite.core.errors import ConfigError, InternalError
from ratite.core.lock import MachineLock
from ratite.cpu.exits import Exit
from ratite.cpu.saved import check_fields, load_fields, save_fields
from ratite.cpu.vcpu import Executor, Vcpu
from ratite.isa.riscv import Hart
from ratite.isa.riscv.mmu import translate
from ratite.isa.riscv.pmp import pmp_update
from ratite.isa.riscv.state import (
    ADUE,
    ECALL_MACHINE,
    ECALL_USER,
    EXTENSION_BIT,
    MACHINE,
    MMU_SUPERVISOR_SUM,
    MMU_USER,
    NS_PER_TICK,
    PMP_ENTRIES,
    STCE,
    SUPERVISOR,
    USER,
)
from ratite.isa.riscv.trap import mip
from ratite.isa.state import EXECUTE, MMIO_LOG, READ, GuestException, PhysRange, find_range
from ratite.memory import AddressSpace, Gpa
from ratite.native import i64, u8, u32, u64
from ratite.qom import Doc, Fact, Object, PropertyInfo

_SINGLE_LETTERS = "imafdc"
_Z_ORDER = (
    "zicbom zicbop zicboz zicntr zicond zicsr zifencei zihintpause zihpm zawrs zba zbb zbc zbs "
    "sstc svadu svade svinval svnapot svpbmt"
).split()
_RESET_WORDS = (
    "mstatus mtvec medeleg mideleg mie mip_soft mscratch mepc mcause mtval mcounteren "
    "mcountinhibit menvcfg stvec sscratch sepc scause stval scounteren senvcfg satp "
    "mcycle_offset minstret_offset exception_cause exception_value"
).split()
_RESET_FLAGS = (
    "ssip_sent frm host_rm fs_dirty timer_changed sbi resync exception_pending "
    "mmio_count mmio_next "
    "reservation_valid block_limit"
).split()
_PRIVILEGES = (USER, SUPERVISOR, MACHINE)
DELEGATED_EXCEPTIONS = 0xB3FF & ~(1 << ECALL_MACHINE)
DELEGATED_INTERRUPTS = 0x222


class CpuModel(Object):
    """Base of CPU models. To management clients they are devices."""

    type_name = "cpu"
    abstract = True
    value_type_names = {}

    @classmethod
    def lineage(cls) -> tuple[str, ...]:
        """The names of the types that it refines."""
        return (*super().lineage()[:-1], "device", Object.type_name)

    @classmethod
    def fact_infos(cls) -> list[PropertyInfo]:
        """What `facts` names."""
        flags = ("realized", "hotplugged", "hotpluggable")
        bus = PropertyInfo("parent_bus", "link<bus>")
        return [*super().fact_infos(), bus, *(PropertyInfo(name, "bool") for name in flags)]

    def facts(self) -> list[Fact]:
        """What clients read of every device."""
        flags = {"realized": True, "hotplugged": False, "hotpluggable": False}
        bus = Fact("parent_bus", "link<bus>", "")
        return [*super().facts(), bus, *(Fact(name, "bool", flags[name]) for name in flags)]


class RiscvCpu(CpuModel):
    """A 64-bit hart with every extension that ratite has; models of it say what they have."""

    type_name = "riscv-cpu"
    abstract = True
    description: ClassVar[str] = ""
    defaults_off: ClassVar[frozenset[str]] = frozenset({"svade"})

    def __init__(
        self,
        *,
        m: bool = True,
        a: bool = True,
        f: bool = True,
        d: bool = True,
        c: bool = True,
        s: bool = True,
        u: bool = True,
        zicsr: Annotated[bool, Doc("control and status registers")] = True,
        zifencei: bool = True,
        zicntr: bool = True,
        zihpm: bool = True,
        zba: bool = True,
        zbb: bool = True,
        zbc: bool = True,
        zbs: bool = True,
        zicond: bool = True,
        zicbom: bool = True,
        zicboz: bool = True,
        zicbop: bool = True,
        zihintpause: bool = True,
        zawrs: bool = True,
        sstc: bool = True,
        svadu: Annotated[bool, Doc("the hart sets accessed and dirty bits")] = True,
        svade: Annotated[bool, Doc("a clear accessed or dirty bit faults")] = False,
        svinval: bool = True,
        svnapot: bool = True,
        svpbmt: bool = True,
        sv39: bool = True,
        sv48: bool = True,
        sv57: bool = True,
        pmp: bool = True,
        mmu: bool = True,
        g: Annotated[bool, Doc("shorthand for i, m, a, f, d, zicsr, zifencei")] = True,
    ) -> None:
        self.m, self.a, self.f, self.d, self.c, self.s, self.u, self.g = m, a, f, d, c, s, u, g
        self.zicsr, self.zifencei, self.zicntr, self.zihpm = zicsr, zifencei, zicntr, zihpm
        self.zba, self.zbb, self.zbc, self.zbs, self.zicond = zba, zbb, zbc, zbs, zicond
        self.zicbom, self.zicboz, self.zicbop = zicbom, zicboz, zicbop
        self.zihintpause, self.zawrs, self.sstc = zihintpause, zawrs, sstc
        self.svadu, self.svade, self.svinval = svadu, svade, svinval
        self.svnapot, self.svpbmt, self.pmp, self.mmu = svnapot, svpbmt, pmp, mmu
        self.sv39, self.sv48, self.sv57 = sv39, sv48, sv57
        super().__init__()

    def enabled(self) -> frozenset[str]:
        """Names of the extensions that are on. Raises `ConfigError` for a set that cannot be."""
        names = {name for name in EXTENSION_BIT if name == "i" or getattr(self, name)}
        if "d" in names and "f" not in names:
            raise ConfigError("-cpu: d=on needs f=on")
        if "s" in names and "u" not in names:
            raise ConfigError("-cpu: s=on needs u=on")
        if not self.zicsr:
            raise ConfigError("-cpu: zicsr=off: the boards need control and status registers")
        if not self.mmu or "s" not in names:
            names -= {"sv39", "sv48", "sv57", "svadu", "svade", "svinval", "svnapot", "svpbmt"}
        if ("sv57" in names and "sv48" not in names) or ("sv48" in names and "sv39" not in names):
            raise ConfigError("-cpu: sv57 needs sv48, and sv48 needs sv39")
        if self.svade:
            names.discard("svadu")
        return frozenset(names)

    def mask(self) -> int:
        """The extensions as `Hart.extensions` holds them."""
        return sum(1 << EXTENSION_BIT[name] for name in self.enabled())

    def isa_string(self) -> str:
        """The device tree's `riscv,isa`."""
        names = self.enabled()
        letters = "".join(letter for letter in _SINGLE_LETTERS if letter in names)
        return "_".join((f"rv64{letters}", *(name for name in _Z_ORDER if name in names)))

    def isa_extensions(self) -> list[str]:
        """The device tree's `riscv,isa-extensions`."""
        names = self.enabled()
        return [*(x for x in _SINGLE_LETTERS if x in names), *(x for x in _Z_ORDER if x in names)]

    def mmu_type(self) -> str:
        """The device tree's `mmu-type`."""
        names = self.enabled()
        mode = next((name for name in ("sv57", "sv48", "sv39") if name in names), "none")
        return f"riscv,{mode}"

    def misa(self) -> int:
        """The misa register."""
        names = self.enabled()
        letters = [*(x for x in _SINGLE_LETTERS if x in names), *(x for x in "su" if x in names)]
        return 2 << 62 | sum(1 << (ord(letter) - ord("a")) for letter in letters)


class Rv64Cpu(RiscvCpu):
    """The usual hart."""

    type_name = "rv64-riscv-cpu"
    description = "RV64GC with bit manipulation, Sstc, Sv57"


class SifiveU54(RiscvCpu):
    """SiFive's U54: RV64GC with Sv39, without the later extensions."""

    type_name = "sifive-u54-riscv-cpu"
    description = "SiFive U54 core: RV64GC, Sv39"

    def enabled(self) -> frozenset[str]:
        """The core's own set, whatever the properties say beyond it."""
        return super().enabled() & frozenset(
            "i m a f d c zicsr zifencei zicntr zihpm sv39 svadu s u pmp".split()
        )


class MaxCpu(RiscvCpu):
    """Everything that ratite can do."""

    type_name = "max-riscv-cpu"
    description = "every extension that ratite has"


class _DebugBus:
    """Page tables as the walker reaches them in CPython while the hart is on the JIT. The walker
    makes no other access."""

    def __init__(self, hart: Hart, space: AddressSpace) -> None:
        self._hart = hart
        self._space = space

    def written(self, gpa: int, size: int) -> None:
        """The walk set A and D bits."""
        self._space.mark_written(Gpa(gpa), size)

    def physical(self, gpa: int) -> int:
        """Host address of RAM."""
        found = find_range(self._hart, u64(gpa))
        if found == 0:
            return 0
        place = PhysRange.at(found)
        return int(place.host) + gpa - int(place.start) if place.host else 0

    def load(self, gva: int, size: int) -> int:
        """Not reached."""
        raise InternalError("the page walker made a virtual access")

    def store(self, gva: int, value: int, size: int) -> None:
        """Not reached."""
        raise InternalError("the page walker made a virtual access")

    def pointer(self, gva: int, size: int, access: int) -> int:
        """Not reached."""
        raise InternalError("the page walker made a virtual access")


class RiscvVcpu(Vcpu):
    """A hart in a machine."""

    state: Hart
    state_version: ClassVar[int] = 1

    def __init__(
        self,
        index: int,
        model: RiscvCpu,
        hart: Hart,
        executor: Executor,
        space: AddressSpace,
        lock: MachineLock,
        clock: Clock,
    ) -> None:
        super().__init__(index, hart, executor, space, lock)
        self.model = model
        self.on_sbi: Callable[[RiscvVcpu], None] | None = None
        self.irq_observers: list[Callable[[int, bool], None]] = []
        self.started = True  # False: a hart that SBI has not started, or has stopped
        self._timer = clock.timer(self._timer_expired)
        hart.index = u32(index)
        hart.mhartid = u64(index)
        hart.extensions = u64(model.mask())
        hart.misa = u64(model.misa())
        hart.icount_shift = i64(-1)

    # -- reset

    def reset(self, pc: int) -> None:
        """Power-on state, at `pc` in machine mode (Privileged ISA, section 3.4)."""
        self._power_on(pc)
        self._go()

    def _go(self) -> None:
        # Last of all: another hart may start this one, whose thread goes on when it sees this.
        self.started = True
        self.state.halted = u32(0)

    def _power_on(self, pc: int) -> None:
        hart = self.state
        self._timer.delete()
        for number in range(33):
            hart.x[number] = u64(0)
        for number in range(32):
            hart.f[number] = u64(0)
        for name in _RESET_WORDS:
            setattr(hart, name, u64(0))
        for name in _RESET_FLAGS:
            setattr(hart, name, u32(0))
        for number in range(PMP_ENTRIES):
            hart.pmpcfg[number] = u8(0)
            hart.pmpaddr[number] = u64(0)
        hart.fp.flags = u32(0)
        hart.host_rm = u32(0)
        hart.stimecmp = u64(u64.MASK)
        if hart.has("svadu"):
            hart.menvcfg = u64(ADUE)
        hart.exit_reason = u32(Exit.INTERRUPTED)  # it is outside until it runs
        hart.privilege = u32(MACHINE)
        hart.pc = u64(pc)
        pmp_update(hart)
        hart.set_mode()
        self.executor.flush()

    def enter_supervisor(self, pc: int, a0: int, a1: int) -> None:
        """The state in which the built-in SBI hands over to an operating system."""
        self._power_on(pc)
        hart = self.state
        hart.sbi = u32(1)
        hart.privilege = u32(SUPERVISOR)
        hart.medeleg = u64(DELEGATED_EXCEPTIONS | 1 << ECALL_USER)
        hart.mideleg = u64(DELEGATED_INTERRUPTS)
        hart.mie = u64(0)
        hart.mcounteren = u64(0xFFFF_FFFF)
        hart.scounteren = u64(7)
        hart.menvcfg = u64(int(hart.menvcfg) | 0xF0 | 1 << 62 | (STCE if hart.has("sstc") else 0))
        hart.pmpcfg[0] = u8(0x1F)
        hart.pmpaddr[0] = u64((1 << 54) - 1)
        pmp_update(hart)
        hart.x[10] = u64(a0)
        hart.x[11] = u64(a1)
        hart.set_mode()
        self._go()

    # -- saved state

    def save(self) -> dict[str, Any]:
        """The state, as plain data; the hart does not execute. A reservation is not part of it:
        the store-conditional after loading fails, as it may.
        """
        hart = self.state
        retired = int(hart.retired())
        # Accesses of the instruction at pc: it runs again, and must not make them again.
        count = int(hart.mmio_count) if int(hart.mmio_serial) == retired else 0
        return {
            **save_fields(hart, hart.SAVED),
            "retired": retired,
            "started": self.started,
            "accesses": [int(hart.mmio_log[index]) for index in range(count)],
            "failed": int(hart.mmio_failed) & ((1 << count) - 1),
        }

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        check_fields(saved, self.state, self.state.SAVED)
        accesses = saved.get("accesses")
        if not isinstance(accesses, list) or len(accesses) > MMIO_LOG:
            raise ConfigError("'accesses' has another length")
        for value in (*accesses, saved.get("retired"), saved.get("failed")):
            if type(value) is not int or not 0 <= value <= u64.MASK:
                raise ConfigError("a count or an access is out of range")
        if type(saved.get("started")) is not bool or saved["privilege"] not in _PRIVILEGES:
            raise ConfigError("'started' or 'privilege' is impossible")

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what `save` answered; `loaded` follows when all else is loaded."""
        hart = self.state
        shift = int(hart.icount_shift)
        if shift >= 0:  # guest time is set already, in terms of another count
            gone = int(hart.retired()) - saved["retired"]
            hart.icount_bias = i64(int(hart.icount_bias) + (gone << shift))
        load_fields(saved, hart, hart.SAVED)
        hart.instret_base = u64((saved["retired"] + int(hart.budget)) & u64.MASK)
        self.started = saved["started"]
        hart.mmio_serial = u64(saved["retired"])
        hart.mmio_count = u32(len(saved["accesses"]))
        hart.mmio_next = u32(0)
        hart.mmio_failed = u64(saved["failed"])
        for index, value in enumerate(saved["accesses"]):
            hart.mmio_log[index] = u64(value)
        for name in ("reservation_valid", "exception_pending", "resync", "block_limit"):
            setattr(hart, name, u32(0))
        hart.exit_reason = u32(Exit.INTERRUPTED)
        pmp_update(hart)
        hart.set_mode()

    def loaded(self) -> None:
        """Forget what was derived from the state before, and follow the new one."""
        hart = self.state
        self._timer.delete()
        if int(hart.menvcfg) & STCE:
            self.set_timer(int(hart.stimecmp))
        self.executor.flush()
        self.kick()

    # -- inspection

    def debug_translate(self, gva: int) -> int | None:
        """Guest-physical address of `gva` as the hart would load from it, or else as it or a
        program below it might; None if it is not mapped. The hart does not execute, or is the
        caller.
        """
        hart = self.state
        bus = hart.__dict__.get("bus")
        hart.bus = _DebugBus(hart, self.space)
        try:
            for index in (int(hart.mmu_index), MMU_SUPERVISOR_SUM, MMU_USER):
                for access in (READ, EXECUTE):
                    with contextlib.suppress(GuestException):
                        gpa, _ = translate(hart, u64(gva), u64(1), u32(access), u32(index))
                        return int(gpa)
        finally:
            if bus is not None:
                hart.bus = bus
        return None

    # -- interrupts

    def set_irq(self, number: int, level: bool) -> None:
        """Drive a bit of mip. The machine lock is held."""
        hart = self.state
        if number == 1 and level:  # SSIP is set by SSWI and cleared by the hart itself
            hart.ssip_sent = u32(1)
        else:
            lines = int(hart.irq_lines)
            hart.irq_lines = u64(lines | 1 << number if level else lines & ~(1 << number))
        if level:
            self.kick()
        for observer in self.irq_observers:
            observer(number, level)

    def has_work(self) -> bool:
        """Whether an interrupt that mie enables is pending."""
        return self.started and int(mip(self.state)) & int(self.state.mie) != 0

    def _timer_expired(self) -> None:
        self.kick()

    def set_timer(self, ticks: int) -> None:
        """Have the hart look again when `time` reaches `ticks`."""
        if ticks >= 1 << 63:
            self._timer.delete()
        else:
            offset = int(self.state.time_offset)
            since_start = (ticks - offset) & u64.MASK
            if since_start >= 1 << 63:
                since_start = 0
            self._timer.mod(since_start * NS_PER_TICK)

    def refresh_mode(self) -> None:
        """Derive `mode` anew."""
        self.state.set_mode()

    def service(self) -> None:
        """Follow stimecmp."""
        hart = self.plain_state
        if hart.timer_changed:
            hart.timer_changed = 0
            if hart.menvcfg & STCE:
                self.set_timer(hart.stimecmp)

    def handle(self, reason: int) -> None:
        """Environment calls to the built-in SBI; waiting is the runner's business."""
        if reason == Exit.SBI and self.on_sbi is not None:
            with self.lock:
                self.on_sbi(self)


MODELS: dict[str, type[RiscvCpu]] = {"rv64": Rv64Cpu, "max": MaxCpu, "sifive-u54": SifiveU54}
"""What `-cpu` names, in the order of `-cpu help`."""

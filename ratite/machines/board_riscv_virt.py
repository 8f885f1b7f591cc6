"""The `virt` board for RISC-V.

Source: the device tree and memory map that QEMU 7.2 shows for `-M virt`; addresses and interrupt
numbers are ABI. Not modelled: the PCIe host bridge and the platform bus.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Annotated, ClassVar
from uuid import UUID

from ratite.core.errors import ConfigError, blaming
from ratite.core.size import KiB, MiB
from ratite.devices import Device
from ratite.devices.block.pflash_cfi01 import PflashCfi01
from ratite.devices.char.ns16550a import Ns16550a
from ratite.devices.intc.riscv_aclint import AclintMtimer, AclintSwi
from ratite.devices.intc.sifive_plic import SifivePlic
from ratite.devices.misc.fw_cfg import FwCfgMem, Key
from ratite.devices.misc.sifive_test import SifiveTest
from ratite.devices.rtc.goldfish_rtc import GoldfishRtc
from ratite.devices.virtio.mmio import VirtioMmio
from ratite.machines.boot import Blob, fw_dynamic_info
from ratite.machines.boot_order import boot_files
from ratite.machines.config import DriveInterface, MachineConfig
from ratite.machines.fdt import Fdt, Node, cells
from ratite.machines.memmap import MemMap, Span
from ratite.machines.riscv import RiscvMachine
from ratite.qom import Doc, TypeName

RBR, LSR, LSR_DATA_READY = 0, 5, 1  # of the ns16550a
PLIC_SOURCES = 96
VIRTIO_COUNT = 8
UART_IRQ, RTC_IRQ, VIRTIO_IRQ = 10, 11, 1
FW_CFG_FILES = {  # for firmware that offers a choice
    "etc/boot-fail-wait": b"\xff\xff\xff\xff",  # milliseconds; -1: do not try again
}


class Aia(Enum):
    """Interrupt controllers of RISC-V's advanced interrupt architecture."""

    NONE = "none"


class VirtRiscv(RiscvMachine):
    """Generic RISC-V board for operating systems with virtio drivers."""

    type_name = "virt-machine"
    name, isa = "virt", "riscv64"
    description = "RISC-V VirtIO board"
    max_cpus = 512
    ram_id = "riscv_virt_board.ram"

    MEMMAP: ClassVar = MemMap(
        mrom=Span(0x0000_1000, 0xF000),
        test=Span(0x0010_0000, 4 * KiB),
        rtc=Span(0x0010_1000, 4 * KiB),
        clint=Span(0x0200_0000, 64 * KiB),
        sswi=Span(0x02F0_0000, 16 * KiB),
        plic=Span(0x0C00_0000, 6 * MiB),
        uart0=Span(0x1000_0000, 256),
        virtio=Span(0x1000_1000, 4 * KiB),
        fw_cfg=Span(0x1010_0000, 24),
        flash=Span(0x2000_0000, 32 * MiB),
        dram=Span(0x8000_0000, None),
    )

    def __init__(
        self,
        *,
        aclint: Annotated[
            bool, Doc("separate ACLINT devices, SSWI among them, instead of a CLINT")
        ] = False,
        aia: Annotated[
            Aia, TypeName("string"), Doc("none: there is no advanced interrupt architecture")
        ] = Aia.NONE,
        aia_guests: Annotated[str, Doc("0 to 7; without effect, there being no AIA")] = "0",
    ) -> None:
        self.aclint = aclint
        self.aia = aia
        self.aia_guests = aia_guests
        if aia_guests not in set("01234567"):
            raise ConfigError("Invalid number of AIA IMSIC guests", hint="aia-guests=0 to 7")
        super().__init__()

    def build(self, config: MachineConfig) -> None:
        """The block diagram."""
        at = self.MEMMAP
        harts = self.add_harts(config)
        self.add_ram(self.ram_id, self.memory_size, at.dram.base)
        self.add_rom("riscv_virt_board.mrom", 0xF000, at.mrom.base)
        swi = AclintSwi(harts, num_harts=len(harts))
        mtimer = AclintMtimer(self.clock, harts, num_harts=len(harts))
        mtimer.on_offset = self.set_time_offset
        self.add("mswi", swi, at=at.clint.base)
        self.add("mtimer", mtimer, at=at.clint.base + 0x4000)
        if self.aclint:
            self.add("sswi", AclintSwi(harts, num_harts=len(harts), sswi=1), at=at.sswi.base)
        plic = SifivePlic(
            harts, hart_config=",".join(["MS"] * len(harts)), num_sources=PLIC_SOURCES
        )
        self.add("plic", plic, at=at.plic.base)
        self.add("test", SifiveTest(self.request_power), at=at.test.base)
        for number in range(VIRTIO_COUNT):
            transport = VirtioMmio(
                self.memory, self.clock, number, force_legacy=self.virtio_legacy()
            )
            self.add(
                f"virtio{number}",
                transport,
                at=at.virtio.at(number).base,
                irq=plic.input(VIRTIO_IRQ + number),
            )
        self.uart = Ns16550a(self.clock, chardev=self.serial(0))
        self.add("uart0", self.uart, at=at.uart0.base, irq=plic.input(UART_IRQ))
        clock, offset_ns = self.clock_of_day()
        rtc = GoldfishRtc(clock)
        self.add("rtc", rtc, at=at.rtc.base, irq=plic.input(RTC_IRQ))
        rtc.offset_ns = offset_ns
        self.flashes = [self._add_flash(number) for number in range(2)]
        self.fw_cfg = self._add_fw_cfg(config)
        for drive in config.drives:
            if drive.interface is DriveInterface.VIRTIO:
                self.add_drive_device("virtio-blk-device", drive)

    def _add_fw_cfg(self, config: MachineConfig) -> FwCfgMem:
        fw_cfg = FwCfgMem(self.memory)
        self.add("fw_cfg", fw_cfg, named=True)
        for region, offset in zip(fw_cfg.regions, (8, 0, 16), strict=True):
            self.memory_root.add_subregion(self.MEMMAP.fw_cfg.base + offset, region)
        fw_cfg.add_int(Key.NB_CPUS, config.smp.cpus, 2)
        fw_cfg.add_bytes(Key.UUID, bytes(16) if config.uuid is None else UUID(config.uuid).bytes)
        return fw_cfg

    def _add_flash(self, number: int) -> Device:
        drive = next(
            (
                self.resolve_backend("drive", drive.id)
                for drive in self.config.drives
                if drive.interface is DriveInterface.PFLASH
                and (drive.unit or drive.index or 0) == number
            ),
            None,
        )
        name = f"virt.flash{number}"
        flash = PflashCfi01(self.ram, drive=drive, flash_name=name)  # type: ignore[arg-type]
        with blaming(f"-pflash, flash {number}"):
            return self.add(name, flash, at=self.MEMMAP.flash.at(number).base, named=True)

    def virtio_legacy(self) -> bool:
        """`-global virtio-mmio.force-legacy=`: QEMU's default is on."""
        for default in self.config.globals:
            if default.driver == "virtio-mmio" and default.property == "force-legacy":
                wanted = VirtioMmio.properties()[default.property].parse(
                    default.driver, default.value
                )
                return bool(wanted)
        return True

    # -- boot

    def finish(self, config: MachineConfig) -> None:
        """Load firmware, kernel and initial RAM disk, and fill the boot ROM."""
        for name, data in {**FW_CFG_FILES, **boot_files(self.walk())}.items():
            self.fw_cfg.add_file(name, data)
        for item in config.fw_cfg:
            self.add_fw_cfg_file(self.fw_cfg, item)
        self.load_guest(self.MEMMAP.dram.base, self.memory_size, self._tree())

    @property
    def flash_boot(self) -> int | None:
        """Where to start if the first flash holds an image."""
        flash = self.flashes[0]
        has_image = getattr(flash, "drive", None) is not None
        return self.MEMMAP.flash.base if has_image else None

    def boot_rom(self, entry: int, fdt: int) -> None:
        """The code at the reset vector."""
        code = reset_code(self.MEMMAP.mrom.base, entry, fdt, self.next_address, self.next_mode)
        self.load("-machine", "the boot ROM's code", code)

    def serial_read(self, limit: int) -> bytes:
        """What the UART has received, as firmware would take it."""
        taken = bytearray()
        while len(taken) < limit and self.uart.read(LSR, 1) & LSR_DATA_READY:
            taken.append(self.uart.read(RBR, 1))
        return bytes(taken)

    @property
    def dram_base(self) -> int:
        """Where RAM begins."""
        return self.MEMMAP.dram.base

    # -- device tree

    def _tree(self) -> Fdt:
        at = self.MEMMAP
        fdt = self.new_tree()
        root = fdt.root
        root.set("#address-cells", 2)
        root.set("#size-cells", 2)
        root.set("compatible", "riscv-virtio")
        root.set("model", "riscv-virtio,ratite")
        fw_cfg = root.child(f"fw-cfg@{at.fw_cfg.base:x}")
        fw_cfg.set("dma-coherent")
        fw_cfg.reg(at.fw_cfg.pair)
        fw_cfg.set("compatible", "qemu,fw-cfg-mmio")
        flash = root.child(f"flash@{at.flash.base:x}")
        flash.set("bank-width", 4)
        flash.reg(at.flash.at(0).pair, at.flash.at(1).pair)
        flash.set("compatible", "cfi-flash")
        chosen = root.child("chosen")
        seed = self.config.seed
        chosen.set(
            "rng-seed", secrets.token_bytes(32) if seed is None else seed.to_bytes(32, "big")
        )
        chosen.set("stdout-path", f"/soc/serial@{at.uart0.base:x}")
        memory = root.child(f"memory@{at.dram.base:x}")
        memory.set("device_type", "memory")
        memory.reg((at.dram.base, self.memory_size))
        controllers = self.cpus_node(root)
        soc = root.child("soc")
        soc.set("#address-cells", 2)
        soc.set("#size-cells", 2)
        soc.set("compatible", "simple-bus")
        soc.set("ranges")
        plic = self._interrupt_nodes(soc, controllers)
        self._device_nodes(soc, plic)
        test = soc.child(f"test@{at.test.base:x}")
        test.reg(at.test.pair)
        test.set("compatible", ["sifive,test1", "sifive,test0", "syscon"])
        for name, value in (("poweroff", 0x5555), ("reboot", 0x7777)):
            node = root.child(name)
            node.set("value", value)
            node.set("offset", 0)
            node.set("regmap", test.phandle())
            node.set("compatible", f"syscon-{name}")
        return fdt

    def _interrupt_nodes(self, soc: Node, controllers: list[int]) -> int:
        """PLIC and CLINT or ACLINT; returns the PLIC's handle."""
        at = self.MEMMAP

        def extended(*numbers: int) -> list[int]:
            return [
                cell for handle in controllers for number in numbers for cell in (handle, number)
            ]

        plic = soc.child(f"plic@{at.plic.base:x}")
        plic.set("riscv,ndev", PLIC_SOURCES)
        plic.reg(at.plic.pair)
        plic.set("interrupts-extended", extended(11, 9))
        plic.set("interrupt-controller")
        plic.set("compatible", ["sifive,plic-1.0.0", "riscv,plic0"])
        plic.set("#address-cells", 0)
        plic.set("#interrupt-cells", 1)
        if not self.aclint:
            clint = soc.child(f"clint@{at.clint.base:x}")
            clint.set("interrupts-extended", extended(3, 7))
            clint.reg(at.clint.pair)
            clint.set("compatible", ["sifive,clint0", "riscv,clint0"])
            return plic.phandle()
        for name, base, compatible, number in (
            ("mswi", at.clint.base, "riscv,aclint-mswi", 3),
            ("sswi", at.sswi.base, "riscv,aclint-sswi", 1),
        ):
            node = soc.child(f"{name}@{base:x}")
            node.set("#interrupt-cells", 0)
            node.set("interrupt-controller")
            node.set("interrupts-extended", extended(number))
            node.reg((base, 0x4000))
            node.set("compatible", compatible)
        mtimer = soc.child(f"mtimer@{at.clint.base + 0x4000:x}")
        mtimer.set("interrupts-extended", extended(7))
        mtimer.reg((at.clint.base + 0x4000 + 0x7FF8, 8), (at.clint.base + 0x4000, 0x7FF8))
        mtimer.set("compatible", "riscv,aclint-mtimer")
        return plic.phandle()

    def _device_nodes(self, soc: Node, plic: int) -> None:
        at = self.MEMMAP

        def device(name: str, span: tuple[int, int], compatible: str, irq: int) -> Node:
            node = soc.child(f"{name}@{span[0]:x}")
            node.set("interrupts", irq)
            node.set("interrupt-parent", plic)
            node.set("reg", cells(span))
            node.set("compatible", compatible)
            return node

        device("rtc", at.rtc.pair, "google,goldfish-rtc", RTC_IRQ)
        uart = device("serial", at.uart0.pair, "ns16550a", UART_IRQ)
        uart.set("clock-frequency", 3_686_400)
        for number in reversed(range(VIRTIO_COUNT)):
            device("virtio_mmio", at.virtio.at(number).pair, "virtio,mmio", VIRTIO_IRQ + number)


def reset_code(base: int, entry: int, fdt: int, next_address: int, next_mode: int) -> list[Blob]:
    """Code and data of the reset vector: a0 = hart id, a1 = device tree, a2 = what fw_dynamic
    reads; then go to `entry`."""
    code = b"".join(
        word.to_bytes(4, "little")
        for word in (
            0x0000_0297,  # auipc t0, 0
            0x0282_8613,  # addi a2, t0, 40
            0xF140_2573,  # csrr a0, mhartid
            0x0202_B583,  # ld a1, 32(t0)
            0x0182_B283,  # ld t0, 24(t0)
            0x0002_8067,  # jr t0
        )
    )
    data = code + entry.to_bytes(8, "little") + fdt.to_bytes(8, "little")
    info = fw_dynamic_info(next_address, next_mode)
    return [Blob("mrom.reset", base, data), Blob("mrom.finfo", base + len(data), info)]

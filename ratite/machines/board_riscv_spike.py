"""The `spike` board: what the RISC-V ISA simulator offers to bare programs.

Source: the device tree that QEMU 7.2 shows for `-M spike`; the HTIF convention of the RISC-V
front-end server.
"""

from __future__ import annotations

from typing import ClassVar

from ratite.core.size import KiB
from ratite.devices.intc.riscv_aclint import AclintMtimer, AclintSwi
from ratite.devices.misc.htif import Htif
from ratite.machines.board_riscv_virt import reset_code
from ratite.machines.boot import Loaded, is_elf
from ratite.machines.config import MachineConfig
from ratite.machines.fdt import Fdt
from ratite.machines.memmap import MemMap, Span
from ratite.machines.riscv import RiscvMachine


class SpikeRiscv(RiscvMachine):
    """Harts, RAM, a CLINT and HTIF, which is where the program's `tohost` and `fromhost` are."""

    type_name = "spike-machine"
    name, isa = "spike", "riscv64"
    description = "RISC-V Spike board"
    max_cpus = 8
    ram_id = "riscv.spike.ram"

    MEMMAP: ClassVar = MemMap(
        mrom=Span(0x0000_1000, 0xF000),
        htif=Span(0x0100_0000, 4 * KiB),
        clint=Span(0x0200_0000, 64 * KiB),
        dram=Span(0x8000_0000, None),
    )

    def build(self, config: MachineConfig) -> None:
        """The block diagram; HTIF is placed when the program is known."""
        at = self.MEMMAP
        harts = self.add_harts(config)
        self.add_ram(self.ram_id, self.memory_size, at.dram.base)
        self.add_rom("riscv.spike.mrom", 0xF000, at.mrom.base)
        mtimer = AclintMtimer(self.clock, harts, num_harts=len(harts))
        mtimer.on_offset = self.set_time_offset
        self.add("mswi", AclintSwi(harts, num_harts=len(harts)), at=at.clint.base)
        self.add("mtimer", mtimer, at=at.clint.base + 0x4000)
        self.htif = Htif(self.memory, self.request_power, chardev=self.serial(0))
        self.add("htif", self.htif)
        # Where no program says otherwise, `fromhost` comes first.
        self.htif_words = (at.htif.base + 8, at.htif.base)

    def finish(self, config: MachineConfig) -> None:
        """Load firmware or program, and place HTIF where it wants it."""
        tree = self._tree()
        self._htif_node = tree.root.child("htif")
        self.load_guest(self.MEMMAP.dram.base, self.memory_size, tree)
        for region, address in zip(self.htif.regions, self.htif_words, strict=True):
            self.memory_root.add_subregion(address, region, priority=1)

    def default_firmware(self) -> str:
        """An executable is a bare program, which is its own firmware."""
        kernel = self.config.boot.kernel
        return "none" if kernel is not None and is_elf(kernel) else "default"

    def on_symbols(self, loaded: Loaded) -> None:
        """HTIF is where the program says; then the device tree does not say it."""
        tohost, fromhost = loaded.symbols.get("tohost"), loaded.symbols.get("fromhost")
        if tohost is not None:
            self.htif_words = (tohost, tohost + 8 if fromhost is None else fromhost)
            self._htif_node.properties.pop("reg", None)

    def boot_rom(self, entry: int, fdt: int) -> None:
        """The code at the reset vector."""
        code = reset_code(self.MEMMAP.mrom.base, entry, fdt, self.next_address, self.next_mode)
        self.load("-machine", "the boot ROM's code", code)

    def _tree(self) -> Fdt:
        at = self.MEMMAP
        fdt = self.new_tree()
        root = fdt.root
        root.set("#address-cells", 2)
        root.set("#size-cells", 2)
        root.set("compatible", "ucbbar,spike-bare-dev")
        root.set("model", "ucbbar,spike-bare,ratite")
        root.child("chosen").set("stdout-path", "/htif")
        memory = root.child(f"memory@{at.dram.base:x}")
        memory.set("device_type", "memory")
        memory.reg((at.dram.base, self.memory_size))
        controllers = self.cpus_node(root)
        soc = root.child("soc")
        soc.set("#address-cells", 2)
        soc.set("#size-cells", 2)
        soc.set("compatible", "simple-bus")
        soc.set("ranges")
        clint = soc.child(f"clint@{at.clint.base:x}")
        clint.set(
            "interrupts-extended",
            [cell for handle in controllers for cell in (handle, 3, handle, 7)],
        )
        clint.reg(at.clint.pair)
        clint.set("compatible", ["sifive,clint0", "riscv,clint0"])
        htif = root.child("htif")
        htif.reg(at.htif.pair)
        htif.set("compatible", "ucb,htif0")
        return fdt

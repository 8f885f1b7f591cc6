"""What RISC-V boards share: harts, the CPU nodes of the device tree, and the boot protocol with
firmware or without.
"""

from __future__ import annotations

from pathlib import Path

from ratite.core.errors import ConfigError, blaming
from ratite.core.log import LogCategory
from ratite.core.size import GiB, MiB, format_size
from ratite.cpu.riscv import MODELS, RiscvCpu, RiscvVcpu
from ratite.devices.misc.fw_cfg import FwCfgMem
from ratite.isa.riscv import Hart
from ratite.isa.riscv.state import SUPERVISOR, TIMEBASE_HZ
from ratite.machines.boot import Blob, Loaded, check_cpio, load_firmware, load_kernel, read_file
from ratite.machines.config import DeviceConfig, DriveConfig, FwCfgConfig, MachineConfig
from ratite.machines.fdt import Fdt, Node, patched
from ratite.machines.hart_array import HartArray
from ratite.machines.machine import Machine, StatePart
from ratite.machines.riscv_sbi import Sbi
from ratite.native import u64
from ratite.qom import keyword_arguments

KERNEL_ALIGN = 2 * MiB
FDT_LIMIT = 3 * GiB
FIRMWARE_DIRECTORIES = (
    Path("/usr/share/qemu"),
    Path("/usr/lib/riscv64-linux-gnu/opensbi/generic"),
    Path("/usr/share/opensbi/lp64/generic/firmware"),
)


class RiscvMachine(Machine):
    """Base of the RISC-V boards."""

    default_cpu = "rv64"

    def __init__(self) -> None:
        super().__init__()
        self.harts: list[RiscvVcpu] = []
        self.sbi: Sbi | None = None
        self.entry = 0
        self.fdt_address = 0
        self.fdt_blob = b""
        self.next_mode = SUPERVISOR
        self.next_address = 0
        self._reset_pc = 0

    def add_harts(self, config: MachineConfig) -> list[RiscvVcpu]:
        """The harts that -smp and -cpu ask for."""
        name = config.cpu.model or self.default_cpu
        model_type = MODELS.get(name)
        if model_type is None:
            raise ConfigError(f"-cpu: unable to find CPU model '{name}'; `-cpu help` lists them")
        soc = HartArray(num_harts=config.smp.cpus, cpu_type=model_type.type_name)
        self.add("soc0", soc, named=True)
        for index in range(config.smp.cpus):
            properties = dict(config.cpu.properties)
            with blaming(f"-cpu {name}"):
                model = model_type(
                    **keyword_arguments(model_type, properties, self.resolve_backend)
                )
                model.enabled()
            soc.add_child("harts[*]", model)
            hart = Hart.allocate()
            executor = self.engine.attach(hart)
            vcpu = RiscvVcpu(index, model, hart, executor, self.memory, self.lock, self.clock)
            self.harts.append(vcpu)
            self.vcpus.append(vcpu)
        return self.harts

    @property
    def cpu_model(self) -> RiscvCpu:
        """The model of every hart."""
        return self.harts[0].model

    def cpu_description(self) -> str:
        """The model, its extensions and its address translation."""
        model = self.cpu_model
        return f"{model.type_name} {model.isa_string()} {model.mmu_type()}"

    def state_parts(self) -> dict[str, StatePart]:
        """The built-in firmware's state comes last: it looks at the harts."""
        parts = super().state_parts()
        return parts if self.sbi is None else {**parts, "sbi": self.sbi}

    def set_time_offset(self, ticks: int) -> None:
        """The machine timer was set: `time` follows it."""
        for hart in self.harts:
            hart.state.time_offset = u64(ticks)

    def add_drive_device(self, driver: str, drive: DriveConfig) -> None:
        """A device for a drive that names no device itself."""
        properties = {"drive": drive.id}
        if drive.serial:
            properties["serial"] = drive.serial
        self.add_user_device(DeviceConfig(driver, None, dict(properties)))

    def add_fw_cfg_file(self, fw_cfg: FwCfgMem, item: FwCfgConfig) -> None:
        """What -fw_cfg adds. Raises `ConfigError` if there is a file of that name."""
        if item.name in fw_cfg.files:
            raise ConfigError(f"-fw_cfg: there is a file '{item.name}' already")
        data = (
            item.text.encode() if item.file is None else read_file(item.file, "-fw_cfg", self.room)
        )
        fw_cfg.add_file(item.name, data)

    # -- device tree

    def cpus_node(self, root: Node) -> list[int]:
        """/cpus, with the handle of each hart's interrupt controller."""
        cpus = root.child("cpus")
        cpus.set("#address-cells", 1)
        cpus.set("#size-cells", 0)
        cpus.set("timebase-frequency", TIMEBASE_HZ)
        handles = []
        cluster = Node(cpus._tree, "cluster0")
        for index, hart in enumerate(self.harts):
            model = hart.model
            node = cpus.child(f"cpu@{index:x}")
            handle = node.phandle()
            node.set("device_type", "cpu")
            node.set("reg", index)
            node.set("status", "okay")
            node.set("compatible", "riscv")
            node.set("riscv,isa", model.isa_string())
            node.set("riscv,isa-base", "rv64i")
            node.set("riscv,isa-extensions", model.isa_extensions())
            if "zicbom" in model.enabled():
                node.set("riscv,cbom-block-size", 64)
            if "zicboz" in model.enabled():
                node.set("riscv,cboz-block-size", 64)
            node.set("mmu-type", model.mmu_type())
            controller = node.child("interrupt-controller")
            controller.set("#interrupt-cells", 1)
            controller.set("interrupt-controller")
            controller.set("compatible", "riscv,cpu-intc")
            handles.append(controller.phandle())
            cluster.child(f"core{index}").set("cpu", handle)
        cpus.child("cpu-map").children["cluster0"] = cluster
        return handles

    # -- boot

    def boot_rom(self, entry: int, fdt: int) -> None:
        """Fill the board's boot ROM."""
        raise ConfigError(f"machine '{self.name}' has no boot ROM")

    @property
    def flash_boot(self) -> int | None:
        """Where an image in flash starts, if there is one: it does before firmware and kernel."""
        return None

    def find_firmware(self) -> Path | None:
        """OpenSBI as Debian installs it, or in the directories of -L."""
        names = ("opensbi-riscv64-generic-fw_dynamic.bin", "fw_dynamic.bin")
        for directory in (*self.config.process.data_directories, *FIRMWARE_DIRECTORIES):
            for name in names:
                path = directory / name
                if path.is_file():
                    return path
        return None

    @property
    def room(self) -> int:
        """How much can be loaded at most: the size of the largest memory."""
        return max(block.size for block in self.ram.blocks)

    def load_guest(self, dram: int, size: int, fdt: Fdt) -> None:
        """Load firmware, kernel, initial RAM disk and device tree."""
        boot = self.config.boot
        firmware = self._firmware(dram)
        self.entry = firmware.entry if firmware else dram
        kernel: Loaded | None = None
        if boot.kernel is not None:
            above = max(dram, firmware.end if firmware else dram)
            start = -(-above // KERNEL_ALIGN) * KERNEL_ALIGN
            if self.sbi is not None:
                start = dram + KERNEL_ALIGN
            kernel = load_kernel(boot.kernel, start, self.room)
            self._check_fit("-kernel", boot.kernel, kernel, dram, size)
            self.load("-kernel", f"the kernel '{boot.kernel}'", kernel.blobs)
            self.next_address = kernel.entry
            self._know(kernel)
            if firmware is None:
                self.entry = kernel.entry
        if self.flash_boot is not None and (self.sbi is None or kernel is None):
            self.entry = self.flash_boot
        chosen = fdt.root.child("chosen")
        if boot.append:
            chosen.set("bootargs", boot.append)
        if boot.initrd is not None:
            span = self._load_initrd(boot.initrd, kernel, dram, size)
            chosen.set("linux,initrd-start", span[0].to_bytes(8, "big"))
            chosen.set("linux,initrd-end", span[1].to_bytes(8, "big"))
        self._place_fdt(fdt, dram, size)
        if self.sbi is None:
            self.boot_rom(self.entry, self.fdt_address)

    def _know(self, loaded: Loaded) -> None:
        self.environment.log.symbols.add(loaded.functions)
        self.on_symbols(loaded)

    def on_symbols(self, loaded: Loaded) -> None:
        """The symbols of the firmware, then of the kernel, for boards that use them."""

    def _firmware(self, dram: int) -> Loaded | None:
        """What -bios says: none, a file, the installed OpenSBI, or the built-in SBI. With an image
        in flash, which is what starts then, the firmware is merely there.
        """
        bios = self.config.boot.bios or self.default_firmware()
        if bios == "none":
            return None
        if bios in ("default", "builtin"):
            path = self.find_firmware() if bios == "default" else None
            if path is None and bios == "default" and self.flash_boot is not None:
                return None
            if path is None:
                self.sbi = Sbi(
                    self.harts,
                    self.clock,
                    self.request_power,
                    self.memory,
                    self.serial_write,
                    self.serial_read,
                )
                return None
        else:
            path = self._named_firmware(bios)
        loaded = load_firmware(path, dram, self.room)
        self._check_fit("-bios", path, loaded, dram, self.memory_size)
        self.load("-bios", f"the firmware '{path}'", loaded.blobs)
        self._know(loaded)
        return loaded

    def default_firmware(self) -> str:
        """What -bios is where it is not given."""
        return "default"

    def _named_firmware(self, name: str) -> Path:
        path = Path(name)
        if path.is_file() or path.parent != Path("."):
            return path
        for directory in (*self.config.process.data_directories, *FIRMWARE_DIRECTORIES):
            if (directory / name).is_file():
                return directory / name
        return path

    def serial_write(self, data: bytes) -> int:
        """The debug console of the built-in SBI: the first serial port. Returns how many bytes were
        taken.
        """
        backend = self.serial(0)
        return len(data) if backend is None else int(backend.write(data))

    def serial_read(self, limit: int) -> bytes:
        """Input of the debug console of the built-in SBI; none where a board has no serial port."""
        return b""

    def _check_fit(self, option: str, path: Path, loaded: Loaded, dram: int, size: int) -> None:
        if loaded.end > dram + size and loaded.start >= dram:
            need = -(-(loaded.end - dram) // MiB)
            advice = f"; use -m {need}M or more" if need * MiB <= self.max_memory else ""
            raise ConfigError(
                f"{option}: {path} ends at {loaded.end:#x}, beyond the {format_size(size)} of "
                f"guest RAM{advice}"
            )

    def _load_initrd(
        self, path: Path, kernel: Loaded | None, dram: int, size: int
    ) -> tuple[int, int]:
        data = read_file(path, "-initrd", self.room)
        check_cpio(data, path)
        inside = [blob for blob in kernel.blobs if blob.end > dram] if kernel else []
        base = max(dram, min((blob.address for blob in inside), default=dram))
        lowest = max((blob.end for blob in inside), default=dram)
        start = max(base + min(size // 2, 128 * MiB), -(-lowest // MiB) * MiB)
        if start + len(data) > dram + size - 2 * MiB:
            start = (dram + size - 2 * MiB - len(data)) & -4096
            if start < lowest:
                raise ConfigError(
                    f"-initrd: {path} ({len(data) / MiB:.1f} MiB) does not fit into "
                    f"{format_size(size)} of guest RAM beside the kernel; use a larger -m"
                )
        blob = Blob("initrd", start, data)
        self.load("-initrd", f"the initial RAM disk '{path}'", [blob])
        return start, blob.end

    def _place_fdt(self, fdt: Fdt, dram: int, size: int) -> None:
        """The device tree goes to the end of RAM, or of what 32 bits address of it: aligned to
        2 MiB, or wherever it fits there.
        """
        boot = self.config.boot
        option = "-m"
        if boot.dtb is not None:
            option = "-dtb"
            chosen = {
                name: value
                for name, value in fdt.root.child("chosen").properties.items()
                if name in ("bootargs", "linux,initrd-start", "linux,initrd-end")
                and value is not None
            }
            self.fdt_blob = patched(read_file(boot.dtb, "-dtb", self.room), chosen, boot.dtb)
        else:
            self.fdt_blob = fdt.flatten()
        top = min(dram + size, FDT_LIMIT)
        for align in (2 * MiB, 8):
            self.fdt_address = (top - len(self.fdt_blob)) & -align
            blob = Blob("fdt", self.fdt_address, self.fdt_blob)
            if self.fdt_address >= dram and self.clash(blob) is None:
                break
        if self.fdt_address < dram:
            raise ConfigError(
                f"{option}: the device tree ({len(self.fdt_blob) / MiB:.1f} MiB) does not fit "
                f"into {format_size(size)} of guest RAM; use a larger -m"
            )
        self.load(option, "the device tree", [blob])

    def new_tree(self) -> Fdt:
        """An empty device tree, as -machine wants it."""
        boot = self.config.boot
        return Fdt(first_phandle=boot.first_phandle, compatible=boot.dt_compatible)

    def start_cpus(self) -> None:
        """All harts to the reset vector; with the built-in SBI the first to the kernel, the others
        stopped.
        """
        log = self.environment.log
        for hart in self.harts:
            if log.enabled(LogCategory.CPU_RESET):
                from ratite.cpu.riscv_inspect import registers  # few runs need it

                shown = registers(hart.state, floating=log.enabled(LogCategory.FPU))
                log.write(LogCategory.CPU_RESET, f"CPU Reset (CPU {hart.index})\n{shown}")
            hart.reset(self.reset_vector)
        if self.sbi is not None:
            self.sbi.reset(self.entry, self.fdt_address)

    @property
    def reset_vector(self) -> int:
        """Where harts start."""
        return 0x1000

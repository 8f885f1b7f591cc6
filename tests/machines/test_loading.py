"""What is put into a machine's memory, and what is refused."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import ratite
from ratite.core import ConfigError
from ratite.core.size import GiB, MiB
from ratite.core.symbols import Symbol
from ratite.machines.boot import Blob, load_firmware, load_kernel, read_file
from ratite.machines.elf import read_elf
from ratite.machines.riscv import RiscvMachine
from ratite.memory import Gpa
from tests.machines.images import CODE, RAM, Load, elf, image

MakeVm = Callable[..., ratite.Vm]
LIMIT = 8 * MiB
BINUTILS = "riscv64-linux-gnu-"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Makes files."""

    def make(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


Write = Callable[[str, bytes], Path]


def blobs(vm: ratite.Vm) -> dict[str, Blob]:
    return {blob.name: blob for blob in vm.machine.blobs}


# -- reading files


@pytest.mark.parametrize("option", ["-kernel", "-bios", "-initrd"])
def test_what_never_ends_is_not_read_for_ever(option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: /dev/zero does not end after 8 MiB$"):
        if option == "-kernel":
            load_kernel(Path("/dev/zero"), RAM, LIMIT)
        elif option == "-bios":
            load_firmware(Path("/dev/zero"), RAM, LIMIT)
        else:
            read_file(Path("/dev/zero"), option, LIMIT)


def test_a_file_larger_than_memory_is_not_read(write: Write) -> None:
    path = write("large", CODE)
    os.truncate(path, 1 << 40)
    with pytest.raises(
        ConfigError, match=r"-kernel: .*large \(1 TiB\) is larger than guest memory"
    ):
        load_kernel(path, RAM, LIMIT)


def test_an_executable_may_be_larger_than_memory_if_what_it_loads_is_not(write: Write) -> None:
    path = write("debuggable", elf(Load()))
    os.truncate(path, 1 << 32)
    loaded = load_kernel(path, RAM, LIMIT)
    assert [blob.data for blob in loaded.blobs] == [CODE]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_functions_of_an_executable_are_known(
    write: Write, pack: Callable[[bytes], bytes]
) -> None:
    path = write("kernel", pack(elf(Load(), symbol_type=2, start=RAM)))
    loaded = load_kernel(path, RAM, LIMIT)
    assert list(loaded.functions()) == [Symbol(RAM, 8, "start")]
    path.write_bytes(b"something else")
    assert list(loaded.functions()) == []
    path.unlink()
    assert list(loaded.functions()) == []


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_what_unpacks_to_more_than_memory_is_refused(
    write: Write, compress: Callable[[bytes], bytes]
) -> None:
    path = write("packed", compress(image(0, 2 * LIMIT)))
    with pytest.raises(ConfigError, match="unpacks to more than there is room for"):
        load_kernel(path, RAM, LIMIT)
    path = write("packed", compress(image(0, LIMIT)))
    assert load_kernel(path, RAM, LIMIT).end == RAM + LIMIT


@pytest.mark.parametrize("content", [b"MZ\0\0zimg", b"MZ\0\0zimg".ljust(4096, b"\xff")])
def test_a_damaged_zboot_image_is_refused(write: Write, content: bytes) -> None:
    path = write("zboot", content)
    if len(content) > 64:
        with pytest.raises(ConfigError, match="damaged EFI zboot image"):
            load_kernel(path, RAM, LIMIT)
    else:
        assert load_kernel(path, RAM, LIMIT).blobs[0].data == content


def test_a_kernel_comes_through_a_pipe_as_slowly_as_it_likes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = image(0)

    def feed() -> None:
        with pipe.open("wb", buffering=0) as file:
            for at in range(0, len(content), 1024):
                time.sleep(0.02)
                file.write(content[at : at + 1024])

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert load_kernel(pipe, RAM, LIMIT).blobs[0].data == content
    feeder.join()


# -- what does not fit


@pytest.mark.parametrize("size", [1 << 45, 1 << 60, (1 << 64) - 1])
def test_an_image_that_says_it_is_huge_is_refused(idle: MakeVm, write: Write, size: int) -> None:
    path = write("image", image(size))
    with pytest.raises(ConfigError, match=r"-kernel: .*image ends at 0x[0-9a-f]+, beyond the 128"):
        idle("-M", "virt", "-bios", "none", "-kernel", path)


@pytest.mark.parametrize("option", ["-kernel", "-bios"])
@pytest.mark.parametrize("size", [1 << 36, 1 << 60, 1 << 63])
def test_a_segment_that_says_it_is_huge_is_refused(
    idle: MakeVm, write: Write, option: str, size: int
) -> None:
    path = write("program", elf(Load(size=size)))
    with pytest.raises(ConfigError, match=rf"{option}: .*program ends at 0x[0-9a-f]+, beyond"):
        idle("-M", "virt", *(["-bios", "none"] if option == "-kernel" else []), option, path)


def test_a_segment_where_there_is_no_memory_is_refused(idle: MakeVm, write: Write) -> None:
    for load in (Load(0x4000_0000), Load(0x2000_0000, size=GiB)):
        path = write("program", elf(Load(), load))
        with pytest.raises(ConfigError, match=r"the kernel '.*program' \(0x.* is beyond the mach"):
            idle("-M", "virt", "-bios", "none", "-kernel", path)


@pytest.mark.parametrize("option", ["-kernel", "-bios"])
def test_headers_below_ram_are_left_out(idle: MakeVm, write: Write, option: str) -> None:
    headers = 64 + 56
    content = elf(Load(RAM - headers, offset=0, file_size=0x104, size=0x104), entry=RAM)
    path = write("program", content)
    machine = idle(
        "-M", "virt", *(["-bios", "none"] if option == "-kernel" else []), option, path
    ).machine
    data, _ = machine.memory.read_bytes(Gpa(RAM), 0x104 - headers)
    assert data == content[headers:0x104]


def test_contents_below_ram_are_refused(idle: MakeVm, write: Write) -> None:
    path = write("program", elf(Load(RAM - 0x1000, offset=0, file_size=0x104, size=0x2000)))
    with pytest.raises(ConfigError, match=r"\(0x7ffff078 to 0x80000fff\) is beyond the machine's"):
        idle("-M", "virt", "-bios", "none", "-kernel", path)


@pytest.mark.skipif(shutil.which(f"{BINUTILS}ld") is None, reason=f"needs {BINUTILS}ld")
def test_what_a_linker_makes_by_default_is_loaded(idle: MakeVm, tmp_path: Path) -> None:
    source, made, program = (tmp_path / name for name in ("t.s", "t.o", "program"))
    source.write_text(".globl _start\n_start: addi a0, x0, 1\n .data\n .dword 0x1122334455667788\n")
    subprocess.run([f"{BINUTILS}as", "-o", made, source], check=True)
    options = [f"-Ttext={RAM:#x}", "--build-id", "-z", "max-page-size=4096"]
    subprocess.run([f"{BINUTILS}ld", *options, "-e", "_start", "-o", program, made], check=True)
    assert read_elf(program.read_bytes()).segments[0].physical < RAM
    machine = idle("-M", "virt", "-bios", "none", "-kernel", program).machine
    data, _ = machine.memory.read_bytes(Gpa(RAM), 4)
    assert data == bytes.fromhex("13051000")


def test_what_follows_the_bytes_of_a_segment_is_zeroed_at_every_reset(
    idle: MakeVm, write: Write
) -> None:
    size = 5 * MiB + 3
    path = write("program", elf(Load(size=size)))
    machine = idle("-M", "virt", "-bios", "none", "-kernel", path).machine
    for at in (RAM + 4, RAM + MiB + 4, RAM + size - 8, RAM + size):
        machine.memory.write_bytes(Gpa(at), b"\xaa" * 8)
    with machine.lock:
        machine.reset()
    data, _ = machine.memory.read_bytes(Gpa(RAM), size + 16)
    assert data == CODE + bytes(size - 4) + b"\xaa" * 8 + bytes(8)


# -- what is in the way of something else


def test_a_kernel_over_the_firmware_is_refused(idle: MakeVm, write: Write) -> None:
    kernel, firmware = write("kernel", elf(Load())), write("firmware", CODE * 100)
    message = (
        f"-kernel: the kernel '{kernel}' (0x80000000 to 0x80000003) overlaps "
        f"the firmware '{firmware}' (0x80000000 to 0x8000018f)"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        idle("-M", "virt", "-bios", firmware, "-kernel", kernel)
    idle("-M", "virt", "-bios", "none", "-kernel", kernel)
    idle("-M", "virt", "-bios", "builtin", "-kernel", kernel)


def test_a_kernel_over_the_boot_rom_is_refused(idle: MakeVm, write: Write) -> None:
    kernel = write("kernel", elf(Load(0x1000)))
    with pytest.raises(ConfigError, match=r"the boot ROM's code \(0x1000 to .*\) overlaps the ker"):
        idle("-M", "virt", "-bios", "none", "-kernel", kernel)


def test_an_initial_ram_disk_keeps_clear_of_the_kernel(idle: MakeVm, write: Write) -> None:
    kernel = write("kernel", elf(Load(), Load(RAM + 70 * MiB, size=10 * MiB)))
    initrd = write("initrd", b"070701".ljust(MiB, b"\0"))
    loaded = blobs(idle("-M", "virt", "-bios", "none", "-kernel", kernel, "-initrd", initrd))
    assert loaded["initrd"].address == RAM + 80 * MiB


def test_a_kernel_in_flash_has_its_initial_ram_disk_in_ram(idle: MakeVm, write: Write) -> None:
    kernel = write("kernel", elf(Load(0x2000_0000), entry=0x2000_0000))
    initrd = write("initrd", b"070701".ljust(MiB, b"\0"))
    loaded = blobs(idle("-M", "virt", "-bios", "none", "-kernel", kernel, "-initrd", initrd))
    assert loaded["initrd"].address == RAM + 64 * MiB


def test_the_device_tree_keeps_clear_of_the_kernel(idle: MakeVm, write: Write) -> None:
    kernel = write("kernel", image(7 * MiB))
    vm = idle("-M", "virt", "-m", "8M", "-bios", "none", "-kernel", kernel)
    tree = blobs(vm)["fdt"]
    assert tree.address == (RAM + 8 * MiB - tree.size) & -8
    assert isinstance(vm.machine, RiscvMachine) and vm.machine.fdt_address == tree.address


def test_a_device_tree_without_room_is_refused(idle: MakeVm, write: Write) -> None:
    kernel = write("kernel", image(8 * MiB))
    with pytest.raises(ConfigError, match=r"^-m: the device tree \(.*\) overlaps the kernel '"):
        idle("-M", "virt", "-m", "8M", "-bios", "none", "-kernel", kernel)


# -- where a machine starts


@pytest.fixture
def flash(write: Write) -> str:
    """The option for an image in the first flash."""
    path = write("flash", CODE)
    os.truncate(path, 32 * MiB)
    return f"if=pflash,format=raw,unit=0,file={path}"


@pytest.mark.parametrize(
    "words",
    [(), ("-bios", "none"), ("-bios", "default"), ("-bios", "{kernel}"), ("-kernel", "{kernel}")],
)
def test_an_image_in_the_first_flash_is_what_starts(
    idle: MakeVm, write: Write, flash: str, words: tuple[str, ...]
) -> None:
    kernel = write("kernel", image(0))
    options = [word.format(kernel=kernel) for word in words]
    machine = idle("-M", "virt", "-drive", flash, *options).machine
    assert isinstance(machine, RiscvMachine)
    assert machine.memory.read(Gpa(0x1018), 8)[0] == 0x2000_0000
    assert (machine.harts[0].state.pc, machine.harts[0].state.privilege) == (0x1000, 3)


def test_the_built_in_sbi_starts_a_kernel_else_what_is_in_flash(
    idle: MakeVm, write: Write, flash: str
) -> None:
    kernel = write("kernel", image(0))
    for words, start in (((), 0x2000_0000), (("-kernel", kernel), RAM + 2 * MiB)):
        vm = idle("-M", "virt", "-bios", "builtin", "-drive", flash, *words)
        assert isinstance(vm.machine, RiscvMachine)
        hart = vm.machine.harts[0].state
        assert (hart.pc, hart.privilege) == (start, 1)
        vm.close()

"""What wrong input gets: one line that names the culprit, exit status 1, no traceback, and every
image as it was. Each case is a run of the real program.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

import ratite.cli.main

pytestmark = pytest.mark.slow

DEMO = Path(ratite.cli.main.__file__).parent / "demo" / "demo.bin"
SYSTEM = [sys.executable, "-c", "from ratite.cli.system import main; raise SystemExit(main())"]
PROGRAM = "ratite-system-riscv64"
QUIET = ["-display", "none", "-serial", "null"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of files that are right and wrong; the cases run in it."""
    directory = tmp_path_factory.mktemp("input")
    kernel = DEMO.read_bytes()
    x86 = bytearray(1024)
    x86[0x202:0x206] = b"HdrS"
    contents = {
        "kernel": kernel,
        "text": b"just text\n",
        "empty": b"",
        "x86": bytes(x86),
        "cut.gz": gzip.compress(kernel)[:3000],
        "cut.zst": zstandard.compress(kernel)[:3000],
        "cut.elf": b"\x7fELF\x02\x01\x01" + bytes(40),
        "disk": b"disk".ljust(MIB, b"\xaa"),
        "disk2": b"disk".ljust(MIB, b"\xbb"),
        "qcow2": b"QFI\xfb".ljust(4096, b"\0"),
        "large": kernel + bytes(9 * MIB),
        "cpio": b"070701" + bytes(5 * MIB),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "directory").mkdir()
    return directory


@pytest.fixture(autouse=True)
def untouched(files: Path) -> object:
    """No case changes a file."""

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}

    before = contents()
    yield
    assert contents() == before


def run(files: Path, *words: str) -> str:
    """The one line that a wrong command line gets, without the program's name."""
    result = subprocess.run(
        [*SYSTEM, *QUIET, *words],
        cwd=files,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    match = re.fullmatch(rf"{PROGRAM}: (.+)\n", result.stderr)
    assert match is not None, result.stderr
    return match[1]


# What is typed, and a part of the answer.
CASES = """
# files that are missing, unreadable, or not what they should be
-kernel none                             | -kernel: cannot read 'none': No such file or directory
-kernel directory                        | -kernel: cannot read 'directory': Is a directory
-kernel empty                            | -kernel: empty is empty
-kernel text                             | -kernel: text is text, neither ELF nor Image
-kernel x86                              | -kernel: x86 is a kernel for x86
-kernel cpio                             | -kernel: cpio is a cpio archive
-kernel /dev/zero                        | -kernel: /dev/zero does not end after 128 MiB
-kernel /dev/full -bios none             | -kernel: /dev/full does not end after 128 MiB
-kernel kernel -initrd /dev/zero         | -initrd: /dev/zero does not end after 128 MiB
-kernel kernel -dtb /dev/zero            | -dtb: /dev/zero does not end after 128 MiB
-bios /dev/zero                          | -bios: /dev/zero does not end after 128 MiB
-fw_cfg name=opt/x,file=/dev/zero        | -fw_cfg: /dev/zero does not end after 128 MiB
-kernel {python}                         | is an ELF file for another machine (EM_
-kernel cut.elf                          | -kernel: cut.elf: damaged ELF file
-kernel cut.gz                           | -kernel: cut.gz: damaged compressed data
-kernel cut.zst                          | -kernel: cut.zst: damaged compressed data
-kernel kernel -initrd none              | -initrd: cannot read 'none': No such file or directory
-kernel kernel -initrd text              | -initrd: text is neither a cpio archive nor compressed
-kernel kernel -initrd empty             | -initrd: empty is neither a cpio archive nor compressed
-kernel kernel -dtb none                 | -dtb: cannot read 'none': No such file or directory
-kernel kernel -dtb text                 | -dtb: text is not a usable device tree
-bios none.bin                           | -bios: cannot read 'none.bin': No such file or directory
-bios directory                          | -bios: cannot read 'directory': Is a directory
-bios empty                              | -bios: empty is empty
-bios {python}                           | is an ELF file for another machine (EM_
-pflash none                             | -pflash: Could not open 'none': No such file or directory
-pflash disk                             | -pflash, flash 0: device requires 33554432 bytes
-fw_cfg name=opt/x,file=none             | -fw_cfg: cannot read 'none': No such file or directory
-fw_cfg name=opt/x,string=y -fw_cfg name=opt/x,string=z | -fw_cfg: there is a file 'opt/x' already
-M virt,dumpdtb=none/tree                | cannot write the device tree to 'none/tree'
-M spike -kernel text                    | -kernel: text is text
-append quiet                            | -append: only a kernel takes it
-initrd cpio                             | -initrd: only a kernel takes it

# states that are not there, or not such
-loadvm x                                | -loadvm x: no block device can store vmstate for snapshot
-loadvm x -drive file=disk,format=raw,if=none,id=d | -loadvm x: Snapshot 'x' does not exist in one or more devices
-loadvm x -incoming defer                | 'incoming' and 'loadvm' options are mutually exclusive
-incoming nosuch                         | -incoming nosuch: unknown migration protocol: nosuch
-incoming tcp:x                          | -incoming tcp:x: error parsing address 'x'
-incoming unix:/nosuch/x                 | -incoming unix:/nosuch/x: Failed to bind socket to /nosuch/x: No such file
-incoming fd:nosuch                      | -incoming fd:nosuch: File descriptor named 'nosuch' has not been found
-incoming file:none                      | -incoming file:none: cannot open 'none': No such file or directory
-incoming file:text                      | load of migration failed: section 'header': this is not a saved ratite machine
-incoming file:empty                     | load of migration failed: section 'header' is cut off
-dump-vmstate none/x                     | cannot write the state's layout to 'none/x': No such file or directory

# more than there is room for
-kernel large -m 8M                      | -kernel: large ends at 0x
-kernel kernel -initrd cpio -m 8M        | -initrd: cpio (5.0 MiB) does not fit
-bios large -m 8M                        | -bios: large ends at 0x
-m 90T                                   | -m: 94371840 MiB of guest memory; this host has
-m 0                                     | -m: a guest without memory cannot start
-m much                                  | -m: size: 'much' is not a size

# names that are not known, values that cannot be
-M nosuch                                | -machine: unsupported machine type 'nosuch'
-M virt,nosuch=on                        | -machine virt: Property 'virt-machine.nosuch' not found
-M virt,aclint=maybe                     | -machine virt: Parameter 'aclint' expects 'on' or 'off'
-cpu nosuch                              | -cpu: unable to find CPU model 'nosuch'
-cpu rv64,nosuch=on                      | -cpu rv64: Property 'rv64-riscv-cpu.nosuch' not found
-cpu rv64,zba=maybe                      | -cpu rv64: Parameter 'zba' expects 'on' or 'off'
-smp 0                                   | -smp: cpus: 0 is out of range: 1 to 512 for machine 'virt'
-smp -1                                  | -smp: cpus: -1 is out of range: 1 to 512 for machine 'virt'
-smp 9 -M spike                          | -smp: cpus: 9 is out of range: 1 to 8 for machine 'spike'
-smp 2,sockets=3                         | -smp: sockets (3) * cores (1) * threads (1) = 3
-accel nosuch                            | -accel: invalid accelerator nosuch
-accel tcg,nosuch=1                      | -accel tcg: Property 'nosuch' not found
-accel tcg,tb-size=many                  | -accel tcg: tb-size
-device nosuch                           | -device nosuch: 'nosuch' is not a valid device model name; `-device help` lists them
-device virtio-rng-device,nosuch=1       | Property 'virtio-rng-device.nosuch' not found
-device virtio-rng-device,period=0       | -device virtio-rng-device: 'period' parameter expects
-device virtio-rng-device,max-bytes=some | Parameter 'max-bytes' expects integer; 'some' is not a number
-device virtio-rng-device,rng=nosuch     | -device virtio-rng-device: Device 'nosuch' not found
-object secret,id=s,data=x -device virtio-rng-device,rng=s | Invalid parameter type for 'rng', expected: rng-backend
-device virtio-rng-device,bus=nosuch     | -device virtio-rng-device: Bus 'nosuch' not found
-device virtio-blk-device                | -device virtio-blk-device: drive property not set
-device virtio-blk-device,drive=nosuch   | 'virtio-blk-device.drive' can't find value 'nosuch'
-drive file=disk,if=none,id=a,format=raw -device virtio-blk-device,drive=a,iothread=nosuch | Device 'nosuch' not found
-device virtconsole                      | -device virtconsole: No 'virtio-serial-bus' bus found
-device {nine}                           | -device virtio-rng-device: No 'virtio-bus' bus found
-device '{{"driver":'                    | -device: not a JSON object
-device virtio-rng-device,id=a -device virtio-rng-device,id=a | -device: Duplicate ID 'a' for device
-device virtio-device                    | -device virtio-device: Parameter 'driver' expects a non-abstract device type
-device serial-mm                        | -device serial-mm: Parameter 'driver' expects a pluggable device type
-device '{{"driver":"virtio-rng-device","period":"5"}}' | -device virtio-rng-device: Parameter 'period' expects uint64
-device '{{"driver":"virtio-rng-device","event_idx":"on"}}' | Invalid parameter type for 'event_idx', expected: boolean
-global virtio-rng-device.period=x -device virtio-rng-device | can't apply global virtio-rng-device.period=x: Parameter 'period' expects integer
-global driver=virtio-rng-device,property=period | -global: options 'driver', 'property', and 'value' are required
-global virtio-mmio.force-legacy=x       | Parameter 'force-legacy' expects 'on' or 'off'
-set nosuch                              | -set: can't parse: "nosuch"
-set nosuch.a.b=c                        | -set: There is no option group 'nosuch'
-set drive.a.b=c                         | -set: properties of 'drive' cannot be set
-set device.a.period=5 -device virtio-rng-device,id=a | -set: there is no device "a" defined
-device virtio-rng-device,id=a -set device.a.nosuch=5 | Property 'virtio-rng-device.nosuch' not found
-device virtio-rng-device,id=a -set device.a.period=0 | 'period' parameter expects a positive integer
-global nosuch.force-legacy=off          | -global: there is no driver 'nosuch'
-global virtio-mmio.nosuch=1             | -global: Property 'virtio-mmio.nosuch' not found
-object nosuch,id=x                      | -object: Parameter 'qom-type' does not accept value 'nosuch'
-object id=x                             | -object: Parameter 'qom-type' is missing
-object memory-backend-ram,id=m          | -object memory-backend-ram: Parameter 'size' is missing
-object memory-backend-ram,id=m,size=huh | -object memory-backend-ram: Parameter 'size' expects a size value
-object memory-backend-ram,id=m,size=1M,nosuch=1 | -object memory-backend-ram: Parameter 'nosuch' is unexpected
-object memory-backend-file,id=m,size=1M,mem-path=/nosuch/y | can't open backing store /nosuch/y for guest RAM: No such file or directory
-object '{{"qom-type":"memory-backend-ram","id":"m","size":"1M"}}' | -object memory-backend-ram: Parameter 'size' expects uint64
-object rng-random                       | -object: Parameter 'id' is missing
-object rng-random,id=x,filename=none    | -object rng-random: Could not open 'none': No such file or directory
-object rng-builtin,id=x -object rng-builtin,id=x | -object: Duplicate ID 'x' for object
-object secret,id=s                     | -object secret: Either 'file' or 'data' must be provided
-object secret,id=s,data=a,file=b       | -object secret: 'file' and 'data' are mutually exclusive
-object secret,id=s,file=none           | -object secret: Unable to read none: No such file or directory
-object secret,id=s,data=%,format=base64 | -object secret: Base64 data contains invalid characters
-audiodev alsa,id=a                     | -audiodev: driver 'alsa': no machine has sound; 'none' is
-audiodev none                          | -audiodev: 'id' is missing
-boot menu=on                           | -boot: menu=on: no firmware of these boards has a menu
-boot splash=x                          | -boot: 'splash' is not known
-overcommit mem-lock=maybe              | -overcommit: mem-lock: 'maybe' is neither 'on' nor 'off'
-machine usb=on                         | -machine: usb=on: no board has USB; leave it out
-chardev nosuch,id=c                     | -chardev c: there is no kind 'nosuch'
-chardev file,id=c                       | -chardev c: Property 'chardev-file.path' must be set
-chardev file,id=c,path=none/f           | -chardev c: cannot open 'none/f': No such file or directory
-chardev socket,id=c,path=none           | -chardev c: cannot connect to 'unix:none': No such file or directory
-chardev socket,id=c,host=localhost,port=none | -chardev c: cannot connect to 'tcp:localhost:none': Servname not supported
-chardev mux,id=m                        | -chardev m: mux: no chardev given
-chardev mux,id=m,chardev=n -chardev null,id=n | -chardev m: mux: base chardev 'n' not found
-add-fd fd=99,set=1                      | -add-fd: fd=99 is not valid or already in use
-chardev ringbuf,id=c,size=3             | -chardev c: size must be a power of two
-serial chardev:nosuch                   | -serial: there is no chardev 'nosuch'
-chardev file,id=c,path=disk,logfile=none/l | -chardev c: cannot open the character log 'none/l'
-chardev socket,id=c                     | -chardev c: a socket takes one of path=, port= and fd=, not none
-qmp unix:none/s,server=on,wait=off      | -qmp: cannot listen on 'unix:none/s,server=on'
-monitor unix:none/s                     | -monitor: cannot connect to 'unix:none/s'
-gdb unix:none/s                         | -gdb: cannot listen on 'unix:none/s,server=on'
-qtest unix:none/s                       | -qtest: cannot connect to 'unix:none/s'
-qtest null -qtest-log none/log          | -qtest-log: cannot create 'none/log'
-serial mon:unix:none/s                  | -serial: cannot connect to 'unix:none/s'
-serial file:none/f                      | -serial: cannot open 'none/f': No such file or directory
-monitor stdio -serial stdio             | both want the terminal
-daemonize -nographic                    | -daemonize: there is no terminal for -nographic
-icount shift=99                         | -icount: shift: 99 is out of range: 0 to 10
-rtc base=noon                           | -rtc: base: 'noon' is neither utc, localtime
-uuid 12                                 | -uuid: '12' is not like
-d nosuch                                | -d: 'nosuch' is no log item
-D none/log -d int                       | cannot open the log file 'none/log'
-pidfile none/pid                        | cannot create the pidfile 'none/pid'
-nosuch                                  | -nosuch: no such option
-krenel x                                | -krenel: no such option; did you mean '-kernel'?
stray                                    | 'stray' is no option
-kernel                                  | -kernel: needs a value: FILE

# disk images
-drive file=none,if=none,id=a            | -drive: Could not open 'none': No such file or directory
-drive file=directory,if=none,id=a       | -drive: Could not open 'directory': Is a directory
-drive file=directory,if=none,id=a,readonly=on | 'file' driver requires 'directory' to be a regular file
-drive file=/dev/null,if=none,id=a       | 'file' driver requires '/dev/null' to be a regular file
-drive file=/sys/kernel/notes,id=a       | Could not open '/sys/kernel/notes': Permission denied; to use it read-only
-drive file=disk,if=none,id=a,format=vdi | -drive: format: 'vdi' is not known
-drive file=disk,id=a,cache=never        | -drive: cache: 'never' is not known
-drive if=pflash                         | -drive: file= is missing
-drive if=none,id=a -device virtio-blk-device,drive=a | Device needs media, but drive is empty
-drive file=disk,id=a,detect-zeroes=unmap | setting detect-zeroes to unmap is not allowed without
-drive file=disk,id=a,aio=native         | aio=native was specified, but it requires cache.direct=on
-drive file=disk,id=a,iops=-1            | bps/iops/max values must be within
-drive file=disk,id=a,node-name=a        | Device name 'a' conflicts with an existing node name
-drive file=disk,if=none,id=a -drive file=disk2,if=none,id=a | -drive: Duplicate ID 'a' for drive
-drive file=disk,if=none,id=a -drive file=disk,if=none,id=b  | -drive: Failed to get "write" lock; is another process using the image [disk]?
-drive file=disk,if=none,id=a -device virtio-blk-device,drive=a -device virtio-blk-device,drive=a | Drive 'a' is already in use by another device
-drive file=disk,if=none,id=a -device virtio-blk-device,drive=a,num-queues=0 | num-queues property must be larger than 0
-drive file=disk,if=none,id=a -device virtio-blk-device,drive=a,logical_block_size=1000 | Property .logical_block_size doesn't take value 1000 (minimum: 512, maximum: 2097152)

# block nodes
-blockdev nosuch,node-name=n             | -blockdev: Parameter 'driver' does not accept value 'nosuch'
-blockdev file,node-name=n               | -blockdev: Parameter 'filename' is missing
-blockdev file,node-name=n,filename=none | -blockdev: Could not open 'none': No such file or directory
-blockdev file,node-name=n,filename=disk,nosuch=1 | -blockdev: Parameter 'nosuch' is unexpected
-blockdev file,filename=disk             | -blockdev: 'node-name' must be specified for the root node
-blockdev file,node-name=1,filename=disk | -blockdev: Invalid node-name: '1'
-blockdev raw,node-name=n,file=nosuch    | -blockdev: Cannot find device='nosuch' nor node-name='nosuch'
-blockdev raw,node-name=n,file.driver=file,file.filename=disk,file.x=1 | -blockdev: Parameter 'file.x' is unexpected
-blockdev raw,node-name=n,file.driver=file,file.filename=disk,offset=1G | -blockdev: Parameter 'offset' expects integer
-blockdev raw,node-name=n,file.driver=file,file.filename=disk,size=100 | -blockdev: Specified size is not multiple of 512
-blockdev '{{"driver":'                  | -blockdev: not a JSON object
-blockdev null-co,node-name=n -blockdev null-co,node-name=n | -blockdev: Duplicate nodes with node-name='n'
-blockdev null-co,node-name=n -drive file=disk,id=n | -drive: Device name 'n' conflicts with an existing node name
-blockdev null-co,node-name=n -device virtio-blk-device,drive=n -device virtio-blk-device,drive=n | Permission conflict on node 'n': permissions 'write' are both required by block device '/machine/peripheral-anon/device[0]'
-blockdev null-co,node-name=n,read-only=on -blockdev raw,node-name=r,file=n -device virtio-blk-device,drive=r | -device virtio-blk-device: Block node is read-only
"""  # noqa: E501

WORDS = {
    "python": sys.executable,
    "nine": " -device ".join(["virtio-rng-device"] * 9),
}


def cases() -> list[tuple[str, str]]:
    """The table's lines."""
    found = []
    for line in CASES.splitlines():
        if line and not line.startswith("#"):
            typed, _, answer = line.partition("|")
            found.append((typed.strip().format(**WORDS), answer.strip()))
    return found


@pytest.mark.parametrize(("typed", "answer"), cases())
def test_wrong_input_is_one_line_that_names_the_culprit(
    files: Path, typed: str, answer: str
) -> None:
    assert answer in run(files, *shlex.split(typed))


def test_a_kernel_that_is_unreadable_is_named(files: Path, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(DEMO.read_bytes())
    kernel.chmod(0)
    if os.access(kernel, os.R_OK):
        pytest.skip("root reads everything")
    assert f"-kernel: cannot read '{kernel}': Permission denied" in run(
        files, "-kernel", str(kernel)
    )


def test_a_read_only_image_is_not_opened_for_writing(files: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    image.chmod(0o444)
    if os.access(image, os.W_OK):
        pytest.skip("root writes everything")
    answer = run(files, "-drive", f"file={image},if=none,id=a")
    assert f"Could not open '{image}': Permission denied" in answer
    assert "readonly=on" in answer


def test_an_image_that_another_ratite_uses_is_refused(files: Path, tmp_path: Path) -> None:
    image, pid_file = tmp_path / "image", tmp_path / "pid"
    image.write_bytes(b"in use".ljust(MIB, b"\xcc"))
    drive = f"file={image},if=none,id=a"
    words = ["-S", "-bios", "none", "-drive", drive, "-daemonize", "-pidfile", str(pid_file)]
    subprocess.run([*SYSTEM, *QUIET, *words], check=True, timeout=60)
    try:
        answer = run(files, "-drive", drive)
        assert answer.startswith(
            f'-drive: Failed to get "write" lock; is another process using the image [{image}]?'
        )
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 20
    while pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert image.read_bytes() == b"in use".ljust(MIB, b"\xcc")


def test_the_front_door_names_itself(files: Path) -> None:
    command = [sys.executable, "-c", "from ratite.cli.main import main; raise SystemExit(main())"]
    result = subprocess.run(
        [*command, "run", "-kernel", str(files / "none")], capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == (
        f"ratite: -kernel: cannot read '{files / 'none'}': No such file or directory\n"
    )

"""What types and options say of themselves, beside what QEMU 7.2 says, which
golden/introspection.py has written down. The tables are the differences, and why they are.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from ratite.memory import Gpa
from tests.monitor.conftest import MakeVm, QmpClient
from tests.monitor.golden.introspection import introspect

GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).with_name("golden").joinpath("introspection.json").read_text()
)
BOARD = "QEMU's boards set it; here the default is what the boards have"

# Types and properties, as patterns. `-name`: not here; `+name`: only here; `name=`: another
# default.
EXPLAINED = {
    "*bus -hotplug-handler": "what plugs devices in is the bus itself",
    "System -hotplug-handler": "likewise",
    "bus +realized": "QEMU's base classes do not list it",
    "virtio-bus +realized": "likewise",
    "virtio-serial-port +*": "QEMU has them in the classes that refine it",
    "cfi.pflash01 *=": BOARD,
    "riscv.sifive.plic *=": BOARD,
    "riscv.aclint.mtimer timebase-freq=": BOARD,
    "serial-mm *=": BOARD,
    "fw_cfg_mem data_width=": BOARD,
    "serial-mm -serial": "the UART is one object, not two",
    "serial-mm -wakeup": "no board can be suspended",
    "riscv.sifive.test -riscv.sifive.test?0?": "its region is made when it is realized",
    "chardev-* +*": "options of character devices are properties that can be read",
    "chardev-socket -addr": "the address is in properties of its own",
    "chardev-socket -connected": "query-chardev tells it",
    "*machine -confidential-guest-support": "there is no such object that it could name",
    "*machine -memory-encryption": "likewise",
    "*machine -hmat": "no board has ACPI",
    "memory-backend* -prealloc-context": "there are no thread-context objects",
    "memory-backend-file -pmem": "no persistent memory",
    "memory-backend-file -readonly": "memory of a board is written",
    "memory-backend-memfd -hugetlb*": "no huge pages",
    "secret -iv": "no secrets that another one decrypts",
    "secret -keyid": "likewise",
    "tcg-accel -*": "options of accelerators are not properties",
    "*cpu -*": "extensions that are not there; constants of the machine; memory as a property",
    "*cpu +*": "extensions that QEMU 7.2 has not, or for other models only, or in capitals",
    "*cpu *=": "extensions that QEMU has off by default",
    "*-device -legacy-*": "QEMU's second form of another property",
    "virtio-blk-device -request-merging": "requests are not merged",
    "iothread -aio-max-batch": "the thread does one request after the other",
    "iothread -thread-pool-*": "likewise, itself",
    "virtio-blk-device bootindex=": "QEMU does not tell the default",
}

OPTIONS_ABSENT = {
    "fsdev": "no shared directories",
    "virtfs": "likewise",
    "iscsi": "no such images",
    "net": "no network cards by this option",
    "netdev": "not compared: what there is follows the network devices",
    "nic": "likewise",
    "numa": "no NUMA",
    "option-rom": "no board has option ROMs",
    "plugin": "no plugins of generated code",
    "sandbox": "no seccomp",
    "semihosting-config": "no semihosting",
    "tpmdev": "no TPM",
    "vnc": "no displays",
}
KEYS_ABSENT = {
    "boot-opts": "reboot-timeout splash splash-time",
    "chardev": (
        "clipboard cols debug delay height localaddr localport mouse name rows tight tls-authz "
        "tls-creds tn3270 websocket width"  # kinds of devices that are not there
    ),
    "drive": "bus",
    "fw_cfg": "gen_id",
    "icount": "rr rrfile rrsnapshot",
    "machine": (
        "aes-key-wrap dea-key-wrap iommu kernel_irqchip kvm_shadow_mem loadparm "  # other boards'
        "dt_compatible phandle_start"  # here with the dashes that the properties have
    ),
    "rtc": "driftfix",
    "smp-opts": "clusters dies",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.monitor.conftest import monitored

    with monitored(tmp_path_factory.mktemp("vm")) as machine:
        return introspect(machine.client().ask, GOLDEN["types"])


def differences(ours: Any, theirs: Any) -> list[str]:
    """As the keys of `EXPLAINED` are written; other differences as they are."""
    if ours is None or theirs is None:
        return [] if ours is theirs else ["is a device for one only"]
    found = [f"-{name}" for name in theirs if name not in ours]
    found += [f"+{name}" for name in ours if name not in theirs]
    for name in ours.keys() & theirs:
        (our_type, our_default, our_text), (type_, default, text) = ours[name], theirs[name]
        if our_type != type_:
            found.append(f"{name}: {our_type}, not {type_}")
        if our_default != default:
            found.append(f"{name}=")
        if text and not our_text:
            found.append(f"{name}: no description")
    return found


def test_types_say_what_qemus_say_but_for_what_is_explained(ours: dict[str, Any]) -> None:
    assert ours["types"].keys() == GOLDEN["types"].keys()
    wrong, used = [], set()
    for type_name, theirs in GOLDEN["types"].items():
        for question in ("qom", "device"):
            for text in differences(ours["types"][type_name][question], theirs[question]):
                difference = f"{type_name} {text}"
                why = [entry for entry in EXPLAINED if fnmatchcase(difference, entry)]
                used.update(why)
                if not why:
                    wrong.append(f"{question}: {difference}")
    assert wrong == []
    assert EXPLAINED.keys() - used == set(), "explained, but there is no difference any more"


def test_options_are_those_of_qemu_with_their_types(ours: dict[str, Any]) -> None:
    for option, keys in GOLDEN["options"].items():
        if option in OPTIONS_ABSENT:
            continue
        mine = ours["options"][option]
        assert keys.keys() - mine == set(KEYS_ABSENT.get(option, "").split()), option
        for name, type_ in mine.items():
            assert keys.get(name, type_) == type_, (option, name)


def test_every_option_group_can_be_in_a_file(qmp: QmpClient) -> None:
    from ratite.cli.options import BY_SECTION

    listed = {entry["option"] for entry in qmp.result("query-command-line-options")}
    assert listed == BY_SECTION.keys()


def test_a_machine_takes_what_it_lists(make_vm: MakeVm) -> None:
    options = (
        "-M virt,dt-compatible=acme,,board,phandle-start=50,mem-merge=off,graphics=off,"
        "suppress-vmdesc=off,usb=off,aia=none,aia-guests=0,smp.cpus=2,smp.maxcpus=4,"
        "memory.size=64M,boot.order=c,boot.strict=on -S -nodefaults -display none -bios none"
    )
    machine = make_vm(options=options)
    qmp = machine.client()
    for name, value in {
        "dt-compatible": "acme,board",
        "phandle-start": 50,
        "mem-merge": False,
        "graphics": False,
        "suppress-vmdesc": False,
        "aia": "none",
        "boot": {"order": "c", "strict": True},
        "memory": {"size": 64 << 20},
    }.items():
        assert qmp.result("qom-get", path="/machine", property=name) == value
    assert qmp.result("qom-get", path="/machine", property="smp")["maxcpus"] == 4
    import libfdt

    tree = libfdt.Fdt(machine.vm.machine.fdt_blob)
    assert tree.getprop(0, "compatible").as_str() == "acme,board"
    assert tree.getprop(tree.path_offset("/cpus/cpu@0"), "phandle").as_uint32() >= 50


def test_firmware_is_told_the_order_of_booting(make_vm: MakeVm, tmp_path: Path) -> None:
    options = ""
    for name, more in (("a", "bootindex=7,lcyls=10,lheads=3,lsecs=9"), ("b", "bootindex=2")):
        image = tmp_path / name
        image.write_bytes(bytes(1 << 20))
        options += (
            f" -drive if=none,id={name},file={image},format=raw"
            f" -device virtio-blk-device,drive={name},{more}"
        )
    machine = make_vm(options).vm.machine

    def content(name: str, size: int) -> bytes:
        selector = machine.fw_cfg.files[name].to_bytes(2, "big")
        machine.memory.write_bytes(Gpa(0x1010_0008), selector)
        return b"".join(machine.memory.read_bytes(Gpa(0x1010_0000), 1)[0] for _ in range(size))

    first, second = (
        f"/virtio-mmio@{address:016x}/disk@0,0" for address in (0x1000_7000, 0x1000_8000)
    )
    for name, text in (
        ("bootorder", f"{first}\n{second}\0"),
        ("bios-geometry", f"{second} 10 3 9\0"),
    ):
        assert content(name, len(text) + 1) == text.encode() + b"\0"


def test_a_default_for_a_base_is_one_for_what_refines_it(make_vm: MakeVm) -> None:
    qmp = make_vm(
        "-global virtio-device.event_idx=off -device virtio-rng-device,id=a "
        "-device virtio-rng-device,id=b,event_idx=on"
    ).client()
    for id, value in (("a", False), ("b", True)):
        path = f"/machine/peripheral/{id}"
        assert qmp.result("qom-get", path=path, property="event_idx") is value

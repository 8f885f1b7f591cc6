"""`-machine`: the board, its properties, and the older spellings of other options."""

from __future__ import annotations

from ratite.cli.draft import Draft, Topic, Wanted
from ratite.cli.keyval import Settings
from ratite.core import ConfigError
from ratite.machines.config import AccelConfig

_BOOT = {"kernel": "boot.kernel", "initrd": "boot.initrd", "dtb": "boot.dtb"}
PROPERTIES = {
    "accel": "accelerators to try, in order: A[:B]...",
    "append": "the kernel's command line, as -append",
    "dtb": "a device tree, as -dtb",
    "dumpdtb": "write the device tree to this file and end",
    "firmware": "the firmware, as -bios",
    "initrd": "the kernel's initial file system, as -initrd",
    "kernel": "the kernel, as -kernel",
    "dump-guest-core": "off: guest memory is left out of core dumps",
    "memory-backend": "id of the memory backend object that is the guest's memory",
    "usb": "off: no board has USB",
}
"""What every board takes, with a line of help each."""


def machine(draft: Draft, text: str) -> None:
    """`[type=]NAME[,dumpdtb=FILE][,accel=A[:B]...][,PROP=VALUE]...`; may be given in parts."""
    settings = Settings.read(text, "type")
    board = settings.text("type")
    if board is not None:
        draft.set("board", board)
    if settings.wants_help("type"):
        raise Wanted(Topic.MACHINES, draft.config.board)
    dump = settings.path("dumpdtb")
    if dump is not None:
        draft.set("boot.dump_dtb", dump)
    for key, field in _BOOT.items():
        file = settings.path(key)
        if file is not None:
            draft.set(field, file)
    for key, field in (("append", "boot.append"), ("firmware", "boot.bios")):
        value = settings.text(key)
        if value is not None:
            draft.set(field, value)
    accels = settings.text("accel")
    if accels:
        draft.set("accels", tuple(AccelConfig(name) for name in accels.split(":")))
    backend = settings.text("memory-backend")
    if backend:
        draft.set("memory_backend", backend)
    dumped = settings.switch("dump-guest-core", draft.config.dump_guest_core)
    draft.set("dump_guest_core", dumped)
    if settings.switch("usb", False):
        raise ConfigError("usb=on: no board has USB; leave it out")
    draft.set("properties", {**draft.config.properties, **settings.rest()})

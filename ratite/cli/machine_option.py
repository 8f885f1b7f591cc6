"""`-machine`: the board, its properties, and the older spellings of other options."""

from __future__ import annotations

from collections.abc import Callable

from ratite.cli import convert, host_options
from ratite.cli.draft import Draft, Topic, Wanted
from ratite.cli.keyval import Settings, to_size, to_text
from ratite.cli.topology import parse_smp
from ratite.core import ConfigError
from ratite.machines.config import AccelConfig

_FILES = {
    "kernel": "boot.kernel",
    "initrd": "boot.initrd",
    "dtb": "boot.dtb",
    "dumpdtb": "boot.dump_dtb",
}
_TEXTS = {
    "append": "boot.append",
    "firmware": "boot.bios",
    "dt-compatible": "boot.dt_compatible",
    "memory-backend": "memory_backend",
}
_ALWAYS_OFF = {  # and what to say of `on`
    "usb": "no board has USB",
    "graphics": "no board has graphics",
    "suppress-vmdesc": "saved state always describes itself",
}
ACCEL = "accelerators to try, in order: A[:B]..."
"""What `accel=` is: for the command line only."""


def machine(draft: Draft, text: str) -> None:
    """`[type=]NAME[,accel=A[:B]...][,PROP=VALUE]...`; may be given in parts. The properties that
    every machine has are those of `ratite.machines.facts`.
    """
    settings = Settings.read(text, "type")
    board = settings.text("type")
    if board is not None:
        draft.set("board", board)
    if settings.wants_help("type"):
        raise Wanted(Topic.MACHINES, draft.config.board)
    for key, field in _FILES.items():
        file = settings.path(key)
        if file is not None:
            draft.set(field, file)
    for key, field in _TEXTS.items():
        value = settings.text(key)
        if value is not None:
            draft.set(field, value)
    accels = settings.text("accel")
    if accels:
        draft.set("accels", tuple(AccelConfig(name) for name in accels.split(":")))
    dumped = settings.switch("dump-guest-core", draft.config.dump_guest_core)
    draft.set("dump_guest_core", dumped)
    draft.set("merge_memory", settings.switch("mem-merge", draft.config.merge_memory))
    first = settings.integer("phandle-start", 0, (1 << 31) - 1)
    if first is not None:
        draft.set("boot.first_phandle", first)
    for key, reason in _ALWAYS_OFF.items():
        if settings.switch(key, False):
            raise ConfigError(f"{key}=on: {reason}; leave it out")
    _parts(draft, settings)
    draft.set("properties", {**draft.config.properties, **settings.rest()})


def _parts(draft: Draft, settings: Settings) -> None:
    """`smp.cpus=` and its like: options of their own, too."""
    options: dict[str, Callable[[str], None]] = {
        "smp": lambda text: draft.set("smp", parse_smp(text)),
        "memory": lambda text: draft.set("memory", convert.memory(text)),
        "boot": lambda text: host_options.boot(draft, text),
    }
    for name, take in options.items():
        given = settings.below(name)
        parts = {key.removeprefix(f"{name}."): to_text(value) for key, value in given.items()}
        if name == "memory":
            names = {"max-size": "maxmem"}
            parts = {  # bytes, where -m counts in MiB
                names.get(key, key): value if key == "slots" else f"{to_size(value)}b"
                for key, value in parts.items()
            }
        if parts:
            take(",".join(f"{key}={value.replace(',', ',,')}" for key, value in parts.items()))

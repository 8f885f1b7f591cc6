"""`info`: virtio devices and their queues. The forms are those of QEMU's monitor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from ratite.monitor.commands import virtio
from ratite.monitor.commands.virtio import VirtioDeviceFeatures
from ratite.monitor.hmp.command import Completed, Number, Shell, hmp


def _paths(shell: Shell) -> Iterable[str]:
    return (device.path for device in virtio.devices(shell.vm))


VirtioPath = Annotated[str, Completed(_paths)]


@hmp("info virtio", "List all available virtio devices")
def virtio_(shell: Shell) -> str:
    """The virtio devices."""
    found = virtio.query_virtio(shell.vm)
    return "".join(f"{info.path} [{info.name}]\n" for info in found) or "No VirtIO devices\n"


@hmp("info virtio-status", "Display status of a given virtio device")
def virtio_status(shell: Shell, path: VirtioPath) -> str:
    """How one virtio device is set up."""
    found = virtio.query_virtio_status(shell.vm, path)
    facts = {
        "device_name": f"{found.name} ",
        "device_id": found.device_id,
        "vhost_started": found.vhost_started,
        "bus_name": found.bus_name or "(null)",
        "broken": found.broken,
        "disabled": found.disabled,
        "disable_legacy_check": found.disable_legacy_check,
        "started": found.started,
        "use_started": found.use_started,
        "start_on_kick": found.start_on_kick,
        "use_guest_notifier_mask": found.use_guest_notifier_mask,
        "vm_running": found.vm_running,
        "num_vqs": found.num_vqs,
        "queue_sel": found.queue_sel,
        "isr": found.isr,
        "endianness": found.device_endian,
    }
    lines = [f"{path}:", *_facts(facts, 24), "  status:", _items(found.status.statuses)]
    if found.status.unknown_statuses:
        lines.append(f"  unknown-statuses(0x{found.status.unknown_statuses:016x})")
    lines += ["  Guest features:", *_features(found.guest_features)]
    lines += ["  Host features:", *_features(found.host_features)]
    lines += ["  Backend features:", *_features(found.backend_features)]
    return "\n".join(lines) + "\n"


def _facts(facts: dict[str, object], width: int) -> Iterator[str]:
    for name, value in facts.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        yield f"  {f'{name}:':<{width}} {shown}"


def _items(items: Sequence[str]) -> str:
    """Items on lines of their own, a comma after each but the last; at least one line."""
    return ",\n".join(f"\t{item}" for item in items)


def _features(features: VirtioDeviceFeatures) -> Iterator[str]:
    yield _items(features.transports)
    if features.dev_features:
        yield _items(features.dev_features)
    if features.unknown_dev_features:
        yield f"  unknown-features(0x{features.unknown_dev_features:016x})"


@hmp("info virtio-queue-status", "Display status of a given virtio queue")
def virtio_queue_status(shell: Shell, path: VirtioPath, queue: Number) -> str:
    """How one queue of a virtio device is set up."""
    found = virtio.query_virtio_queue_status(shell.vm, path, queue)
    facts = {
        "device_name": found.name,
        "queue_index": found.queue_index,
        "inuse": found.inuse,
        "used_idx": found.used_idx,
        "signalled_used": found.signalled_used,
        "signalled_used_valid": found.signalled_used_valid,
        "last_avail_idx": found.last_avail_idx,
        "shadow_avail_idx": found.shadow_avail_idx,
    }
    ring = {
        "  num": found.vring_num,
        "  num_default": found.vring_num_default,
        "  align": found.vring_align,
        "  desc": f"0x{found.vring_desc:016x}",
        "  avail": f"0x{found.vring_avail:016x}",
        "  used": f"0x{found.vring_used:016x}",
    }
    return "\n".join([f"{path}:", *_facts(facts, 21), "  VRing:", *_facts(ring, 15)]) + "\n"


@hmp(
    "info virtio-vhost-queue-status",
    "Display status of a given vhost queue",
)
def virtio_vhost_queue_status(shell: Shell, path: VirtioPath, queue: Number) -> None:
    """A queue as a backend outside of the process has it: there are none, so that this fails."""
    virtio.query_virtio_vhost_queue_status(shell.vm, path, queue)


@hmp("info virtio-queue-element", "Display element of a given virtio queue")
def virtio_queue_element(
    shell: Shell, path: VirtioPath, queue: Number, index: Number | None = None
) -> str:
    """One chain that the guest has put into a queue."""
    found = virtio.query_virtio_queue_element(shell.vm, path, queue, index)
    buffers = [
        f"        addr {buffer.addr:#x} len {buffer.len}"
        + (f" ({', '.join(buffer.flags)})" if buffer.flags else "")
        for buffer in found.descs
    ]
    lines = [
        f"{path}:",
        f"  device_name: {found.name}",
        f"  index:   {found.index}",
        "  desc:",
        "    descs:",
        ",\n".join(buffers),
        "  avail:",
        f"    flags: {found.avail.flags}",
        f"    idx:   {found.avail.idx}",
        f"    ring:  {found.avail.ring}",
        "  used:",
        f"    flags: {found.used.flags}",
        f"    idx:   {found.used.idx}",
    ]
    return "\n".join(lines) + "\n"

"""Virtio devices as they are set up, and their queues.

Source: QEMU's QMP reference, `x-query-virtio*`. Not modelled: backends outside of the process
(vhost), of which there are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ratite.core.errors import ConfigError
from ratite.devices.virtio import inspect
from ratite.devices.virtio.device import Status, VirtioDevice
from ratite.devices.virtio.feature import F_VERSION_1, RING_FEATURES, FeatureBit
from ratite.devices.virtio.mmio import VirtioMmio
from ratite.devices.virtio.queue import DESC_NEXT, DESC_WRITE, VirtQueue
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm
from ratite.qom import Doc

DEFAULT_ALIGN = 4096
_STATUS_TEXTS = {
    Status.ACKNOWLEDGE: "The guest has found the device",
    Status.DRIVER: "The guest has a driver for it",
    Status.FEATURES_OK: "The features are agreed on",
    Status.DRIVER_OK: "The driver is ready",
    Status.NEEDS_RESET: "The device waits to be reset",
    Status.FAILED: "The driver has given up",
}


def devices(vm: Vm) -> list[VirtioDevice]:
    """Those that are plugged in, the latest first."""
    found = [node for node in vm.root.walk() if isinstance(node, VirtioDevice) and node.realized]
    return found[::-1]


def short_name(device: VirtioDevice) -> str:
    """The device's name in the standard's manner."""
    return device.type_name.removesuffix("-device")


def _find(vm: Vm, path: str, kind: str = "VirtIODevice") -> VirtioDevice:
    for device in devices(vm):
        if device.path == path:
            return device
    raise QmpError(f"Path {path} is not a {kind}")


def _queue(device: VirtioDevice, number: int) -> VirtQueue:
    if not 0 <= number < len(device.queues):
        raise QmpError(f"Invalid virtqueue number {number}")
    return device.queues[number]


@dataclass(frozen=True)
class VirtioInfo:
    """One device."""

    path: Annotated[str, Doc("where it is in the composition tree")]
    name: str


@command("x-query-virtio", features=("unstable",))
def query_virtio(vm: Vm) -> list[VirtioInfo]:
    """The virtio devices."""
    return [VirtioInfo(device.path, short_name(device)) for device in devices(vm)]


@dataclass(frozen=True)
class VirtioDeviceFeatures:
    """Feature bits, each as its name, a colon and what it is."""

    transports: Annotated[list[str], Doc("those that any device can have")]
    dev_features: Annotated[list[str], Doc("those of its type")]
    unknown_dev_features: Annotated[int | None, Doc("a mask of the others, if there are")] = None


@dataclass(frozen=True)
class VirtioDeviceStatus:
    """Status bits, each as its name, a colon and what it is."""

    statuses: list[str]
    unknown_statuses: int | None = None


@dataclass(frozen=True)
class VirtioStatus:
    """How a device is set up."""

    name: str
    device_id: Annotated[int, Doc("the number of its type")]
    vhost_started: bool
    device_endian: str
    guest_features: Annotated[VirtioDeviceFeatures, Doc("those that the driver accepted")]
    host_features: Annotated[VirtioDeviceFeatures, Doc("those that are offered")]
    backend_features: VirtioDeviceFeatures
    num_vqs: Annotated[int, Doc("how many queues it has")]
    status: VirtioDeviceStatus
    isr: Annotated[int, Doc("reasons of interrupts that are not acknowledged")]
    queue_sel: Annotated[int, Doc("the queue that the driver sets up")]
    vm_running: bool
    broken: Annotated[bool, Doc("whether the guest has broken it, until it is reset")]
    disabled: bool
    use_started: bool
    started: Annotated[bool, Doc("whether the driver has said that it is ready")]
    start_on_kick: bool
    disable_legacy_check: bool
    bus_name: str
    use_guest_notifier_mask: bool


def _named(bits: Iterable[FeatureBit], features: int) -> list[str]:
    return [f"{bit.name}: {bit.text}" for bit in bits if features & bit]


def _features(device: VirtioDevice, features: int) -> VirtioDeviceFeatures:
    unknown = features & ~sum(RING_FEATURES) & ~sum(device.known_features)
    return VirtioDeviceFeatures(
        _named(RING_FEATURES, features), _named(device.known_features, features), unknown or None
    )


def _status(status: int) -> VirtioDeviceStatus:
    texts = [
        f"VIRTIO_CONFIG_S_{bit.name}: {text}" for bit, text in _STATUS_TEXTS.items() if status & bit
    ]
    return VirtioDeviceStatus(texts, status & ~sum(_STATUS_TEXTS) or None)


@command("x-query-virtio-status", features=("unstable",))
def query_virtio_status(vm: Vm, path: str) -> VirtioStatus:
    """How one virtio device is set up."""
    device = _find(vm, path)
    transport = device.transport
    mmio = transport if isinstance(transport, VirtioMmio) else None
    offered = device.offered_features
    if mmio is not None and mmio.force_legacy:
        offered &= ~F_VERSION_1
    return VirtioStatus(
        name=short_name(device),
        device_id=device.device_id,
        vhost_started=False,
        device_endian="little",
        guest_features=_features(device, device.features),
        host_features=_features(device, offered),
        backend_features=VirtioDeviceFeatures([], []),
        num_vqs=len(device.queues),
        status=_status(device.status),
        isr=mmio.InterruptStatus if mmio is not None else 0,
        queue_sel=mmio.queue_sel if mmio is not None else 0,
        vm_running=vm.runner.running,
        broken=device.is_broken,
        disabled=False,
        use_started=True,
        started=bool(device.status & Status.DRIVER_OK),
        start_on_kick=False,
        disable_legacy_check=False,
        bus_name="",
        use_guest_notifier_mask=True,
    )


@dataclass(frozen=True)
class VirtQueueStatus:
    """How a queue is set up, and how far it is."""

    name: str
    queue_index: int
    inuse: Annotated[int, Doc("how many chains the device has at hand")]
    vring_num: int
    vring_num_default: int
    vring_align: int
    vring_desc: int
    vring_avail: int
    vring_used: int
    used_idx: int
    signalled_used: Annotated[int, Doc("`used-idx` at the last interrupt")]
    signalled_used_valid: bool
    last_avail_idx: Annotated[int | None, Doc("up to where chains were taken")] = None
    shadow_avail_idx: Annotated[int | None, Doc("up to where there are some")] = None


@command("x-query-virtio-queue-status", features=("unstable",))
def query_virtio_queue_status(vm: Vm, path: str, queue: int) -> VirtQueueStatus:
    """How one queue of a virtio device is set up."""
    device = _find(vm, path)
    found = _queue(device, queue)
    saved = found.save()
    return VirtQueueStatus(
        name=short_name(device),
        queue_index=found.index,
        inuse=found.in_use,
        vring_num=found.size,
        vring_num_default=found.max_size,
        vring_align=_align(device, queue),
        vring_desc=found.descriptors,
        vring_avail=found.available,
        vring_used=found.used,
        used_idx=found.used_index,
        signalled_used=max(saved["signalled"], 0),
        signalled_used_valid=saved["signalled"] >= 0,
        last_avail_idx=found.last_available,
        shadow_avail_idx=inspect.available_index(found, device.memory),
    )


def _align(device: VirtioDevice, number: int) -> int:
    transport = device.transport
    chosen = transport.queue_align if isinstance(transport, VirtioMmio) else []
    return chosen[number] if number < len(chosen) else DEFAULT_ALIGN


@command("x-query-virtio-vhost-queue-status", features=("unstable",))
def query_virtio_vhost_queue_status(vm: Vm, path: str, queue: int) -> VirtQueueStatus:
    """A queue as a backend outside of the process has it. There are none, so that this fails."""
    _find(vm, path)
    raise QmpError("Error: vhost device has not started yet")


@dataclass(frozen=True)
class VirtioRingDesc:
    """One buffer."""

    addr: int
    len: Annotated[int, Doc("bytes")]
    flags: Annotated[list[str], Doc("`next`: another one follows; `write`: the device writes it")]


@dataclass(frozen=True)
class VirtioRingAvail:
    """The ring of chains that the guest has made available."""

    flags: int
    idx: int
    ring: Annotated[int, Doc("the slot's content: the head of the chain")]


@dataclass(frozen=True)
class VirtioRingUsed:
    """The ring of chains that were given back."""

    flags: int
    idx: int


@dataclass(frozen=True)
class VirtioQueueElement:
    """A chain in a queue."""

    name: str
    index: Annotated[int, Doc("its first descriptor")]
    descs: Annotated[list[VirtioRingDesc], Doc("its buffers, the last one first")]
    avail: VirtioRingAvail
    used: VirtioRingUsed


@command("x-query-virtio-queue-element", features=("unstable",))
def query_virtio_queue_element(
    vm: Vm,
    path: str,
    queue: int,
    index: Annotated[
        int | None, Doc("the slot of the available ring; without it the one that is taken next")
    ] = None,
) -> VirtioQueueElement:
    """One chain that the guest has put into a queue."""
    device = _find(vm, path, "VirtIO device")
    try:
        rings = inspect.look(_queue(device, queue), device.memory, index)
    except ConfigError as error:
        raise QmpError(error.text) from None
    names = (("write", DESC_WRITE), ("next", DESC_NEXT))
    descs = [
        VirtioRingDesc(buffer.address, buffer.size, [n for n, bit in names if buffer.flags & bit])
        for buffer in reversed(rings.chain)
    ]
    return VirtioQueueElement(
        short_name(device),
        rings.head,
        descs,
        VirtioRingAvail(rings.available_flags, rings.available_index, rings.head),
        VirtioRingUsed(rings.used_flags, rings.used_index),
    )

"""The base of virtio devices: features, status, configuration space, queues; and their bus.

Source: Virtio 1.2, chapters 2 (basic facilities) and 3 (initialization).
Not modelled: packed queues, notification data. There is no IOMMU: the platform's addresses are
those of its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Protocol

from ratite.core.clock import Clock
from ratite.core.errors import ConfigError, InternalError
from ratite.core.trace import TraceEvent
from ratite.devices.bus import Bus
from ratite.devices.device import Device
from ratite.devices.register import State
from ratite.devices.virtio.feature import (
    F_ACCESS_PLATFORM,
    F_ANY_LAYOUT,
    F_NOTIFY_ON_EMPTY,
    F_RING_EVENT_IDX,
    F_RING_INDIRECT_DESC,
    F_RING_RESET,
    F_VERSION_1,
    FeatureBit,
)
from ratite.devices.virtio.queue import NEW_QUEUE, QueueState, VirtQueue
from ratite.memory import AddressSpace
from ratite.qom import Doc, Named, Object, Property, PropertyGroup
from ratite.qom.property import group_properties

LEGACY_ONLY = F_NOTIFY_ON_EMPTY | F_ANY_LAYOUT

INTERRUPT_QUEUE = 1
INTERRUPT_CONFIG = 2


@TraceEvent
def virtio_queue_notify(vdev: Object, n: int) -> str:
    """The guest says that queue `n` has new chains."""
    return f"vdev {vdev.path} n {n}"


@TraceEvent
def virtio_set_status(vdev: Object, val: int) -> str:
    """The device's status is set, by the guest or a reset."""
    return f"vdev {vdev.path} val {val}"


class Status(IntEnum):
    """Device status bits."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


@dataclass(frozen=True)
class VirtioOptions(PropertyGroup):
    """Properties that every virtio device has."""

    indirect_desc: Annotated[bool, Named("indirect_desc"), Doc("offer indirect descriptors")] = True
    event_idx: Annotated[bool, Named("event_idx"), Doc("offer event indexes")] = True
    notify_on_empty: Annotated[bool, Named("notify_on_empty"), Doc("legacy feature")] = True
    any_layout: Annotated[bool, Named("any_layout"), Doc("legacy feature")] = True
    queue_reset: Annotated[bool, Named("queue_reset"), Doc("offer reset of single queues")] = True
    iommu_platform: Annotated[
        bool, Named("iommu_platform"), Doc("the driver must use addresses of the platform's")
    ] = False
    packed: Annotated[bool, Named("packed"), Doc("must be off")] = False
    use_started: Annotated[bool, Doc("must be on")] = True
    use_disabled_flag: Annotated[bool, Doc("must be on")] = True
    x_disable_legacy_check: Annotated[bool, Doc("must be off")] = False

    @property
    def features(self) -> int:
        """The feature bits that these properties offer."""
        return (
            F_VERSION_1
            | (F_RING_INDIRECT_DESC if self.indirect_desc else 0)
            | (F_RING_EVENT_IDX if self.event_idx else 0)
            | (F_NOTIFY_ON_EMPTY if self.notify_on_empty else 0)
            | (F_ANY_LAYOUT if self.any_layout else 0)
            | (F_RING_RESET if self.queue_reset else 0)
            | (F_ACCESS_PLATFORM if self.iommu_platform else 0)
        )

    def check(self) -> None:
        """Raise `ConfigError` for what has one possible value, and another was given."""
        for name, only in ONE_VALUE.items():
            if getattr(self, name.replace("-", "_")) is not only:
                raise ConfigError(f"{name}={'off' if only else 'on'} is not supported")


ONE_VALUE = {
    "packed": False,
    "use-started": True,
    "use-disabled-flag": True,
    "x-disable-legacy-check": False,
}


VIRTIO_DEFAULTS = VirtioOptions()


class VirtioTransport(Protocol):
    """What a virtio device needs of its transport."""

    @property
    def memory(self) -> AddressSpace:
        """What the device reads and writes."""

    @property
    def clock(self) -> Clock:
        """Guest time."""

    def plugged(self, device: VirtioDevice, /) -> None:
        """Present this device to the guest from now on."""

    def unplugged(self) -> None:
        """Present no device any more."""

    def interrupt(self, reason: int, /) -> None:
        """Raise the interrupt for one of the `INTERRUPT_` reasons."""


class VirtioBus(Bus):
    """Joins one transport and one virtio device."""

    type_name = "virtio-bus"
    abstract = True
    max_devices = 1

    def __init__(self, bus_name: str, owner: Device, transport: VirtioTransport) -> None:
        super().__init__(bus_name, owner)
        self.transport = transport


class VirtioDevice(Device):
    """A virtio device behind some transport.

    A subclass offers `own_features`, makes its queues in `realize` by `add_queue` before it calls
    the base's, answers `read_config`, and overrides the hooks `driver_ready` and `stopped`.
    """

    type_name = "virtio-device"
    abstract = True
    bus_type = "virtio-bus"
    user_creatable = True
    device_id: ClassVar[int] = 0
    known_features: ClassVar[tuple[FeatureBit, ...]] = ()  # of its type; for those who look

    features = State(0)  # those that the driver accepted
    status = State(0)
    is_broken = State(False)  # by guest nonsense, until it resets the device
    generation = State(0)  # of the configuration space
    queue_states = State[list[QueueState]](factory=lambda _: [], element=NEW_QUEUE)  # by `save`

    def __init__(self, options: VirtioOptions) -> None:
        self.virtio = options
        self.queues: list[VirtQueue] = []
        self._transport: VirtioTransport | None = None
        super().__init__()

    @classmethod
    def properties(cls) -> Mapping[str, Property]:
        """The declared properties; of the base those that all have."""
        if cls is VirtioDevice:
            return {entry.name: entry for entry in group_properties("virtio", VirtioOptions)}
        return super().properties()

    # -- for subclasses

    def own_features(self) -> int:
        """The feature bits that the device type offers."""
        return 0

    def read_config(self) -> bytes:
        """The configuration space, little-endian."""
        return b""

    def write_config(self, offset: int, value: int, size: int) -> None:
        """Take a write by the driver inside the configuration space."""
        self.guest_error(f"write of {value:#x} to configuration offset {offset:#x}")

    def driver_ready(self) -> None:
        """React to the driver having set DRIVER_OK."""

    def stopped(self, queues: Sequence[VirtQueue]) -> None:
        """Let go of all that is in flight from `queues`, which are reset next."""

    def held(self, queue: VirtQueue) -> int:
        """How many chains popped last from `queue` are kept; they are migrated as not popped."""
        return 0

    def add_queue(self, size: int, handler: Callable[[VirtQueue], None]) -> VirtQueue:
        """Add the next queue; `size` is the largest the driver may choose, a power of two."""
        queue = VirtQueue(self, len(self.queues), size, handler)
        self.queues.append(queue)
        return queue

    @property
    def memory(self) -> AddressSpace:
        """What the device reads and writes."""
        return self.transport.memory

    @property
    def transport(self) -> VirtioTransport:
        """The transport; there is one while the device is realized."""
        if self._transport is None:
            raise InternalError(f"{self.type_name} has no transport")
        return self._transport

    def has(self, feature: int) -> bool:
        """True if the driver accepted this feature bit."""
        return bool(self.features & feature)

    def broken(self, text: str) -> None:
        """Stop until the guest resets the device: it did what `text` says."""
        self.guest_error(f"{text}; the device needs a reset")
        if self.is_broken:
            return
        self.is_broken = True
        if self.has(F_VERSION_1):
            self.status |= Status.NEEDS_RESET
            if self.status & Status.DRIVER_OK:
                self.transport.interrupt(INTERRUPT_CONFIG)

    def interrupt_queue(self) -> None:
        """Tell the guest of used buffers."""
        self.transport.interrupt(INTERRUPT_QUEUE)

    def config_changed(self) -> None:
        """Tell the guest that the configuration space has new content."""
        self.generation = (self.generation + 1) & 0xFFFF_FFFF
        if self.status & Status.DRIVER_OK:
            self.transport.interrupt(INTERRUPT_CONFIG)

    # -- for the transport

    @property
    def offered_features(self) -> int:
        """All feature bits offered."""
        return self.own_features() | self.virtio.features

    def accept_features(self, features: int) -> bool:
        """Take the driver's choice; False if it holds bits that were not offered, or lacks one that
        must be accepted.
        """
        unknown = features & ~self.offered_features
        if unknown:
            self.guest_error(f"the driver accepts features {unknown:#x} that were not offered")
        self.features = features & self.offered_features
        if self.virtio.iommu_platform and not self.has(F_ACCESS_PLATFORM):
            self.guest_error("the driver does not accept VIRTIO_F_ACCESS_PLATFORM")
            return False
        return not unknown

    def set_status(self, status: int) -> None:
        """Take a status other than 0 from the driver."""
        if trace := self.log.trace:
            trace(virtio_set_status, self, status)
        before = self.status
        self.status = status & 0xFF | before & Status.NEEDS_RESET
        if self.status & Status.DRIVER_OK and not before & Status.DRIVER_OK:
            self.driver_ready()

    def enable_queue(self, queue: VirtQueue) -> None:
        """Start a queue that the driver has set up."""
        queue.enable(
            event_index=self.has(F_RING_EVENT_IDX),
            indirect=self.has(F_RING_INDIRECT_DESC),
            notify_on_empty=self.has(F_NOTIFY_ON_EMPTY),
        )

    def notified(self, index: int) -> None:
        """The driver says that queue `index` has new chains. Runs: per notification."""
        if trace := self.log.trace:
            trace(virtio_queue_notify, self, index)
        if index >= len(self.queues):
            self.guest_error(f"notification of queue {index}, which does not exist")
            return
        queue = self.queues[index]
        if queue.ready and not self.is_broken:
            queue.handler(queue)

    def queue_reset(self, queue: VirtQueue) -> None:
        """Stop one queue and forget its set-up, as the driver asks for."""
        self.stopped((queue,))
        queue.reset()

    def restart(self) -> None:
        """Return to the state after realize, as the driver asks for by status 0."""
        if trace := self.log.trace:
            trace(virtio_set_status, self, 0)
        self.stopped(self.queues)
        for queue in self.queues:
            queue.reset()
        self._set_defaults(all_states=False)

    # -- life

    def realize(self) -> None:
        """Join the transport. Raises ConfigError for properties that cannot be."""
        self.virtio.check()
        bus = self.parent_bus
        if not isinstance(bus, VirtioBus):
            raise ConfigError(f"{self.type_name} needs a virtio bus")
        self._transport = bus.transport
        super().realize()
        bus.transport.plugged(self)

    def unrealize(self) -> None:
        """Leave the transport."""
        self.restart()
        self.transport.unplugged()
        self._transport = None
        super().unrealize()

    def reset_enter(self) -> None:
        """Return to power-on values."""
        self.restart()

    def save(self) -> dict[str, Any]:
        """The migrated state, queues included."""
        self.queue_states = [queue.save(held=self.held(queue)) for queue in self.queues]
        return super().save()

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise `ConfigError` if `load` could not take this."""
        super().check(saved)
        number = len(saved["queue_states"])
        if number != len(self.queues):
            raise ConfigError(
                f"saved state of '{self.type_name}' has {number} queues, "
                f"the device {len(self.queues)}"
            )

    def loaded(self) -> None:
        """Set the queues up as they were."""
        for queue, state in zip(self.queues, self.queue_states, strict=True):
            queue.load(state)
            if state["ready"]:
                self.enable_queue(queue)
        # Chains that were held are available again, and the guest will not notify of them twice.
        clock = self.transport.clock
        clock.timer(self.resume).mod(clock.now_ns())

    def resume(self) -> None:
        """Go on after loading, when guest time does."""
        for index, queue in enumerate(self.queues):
            if queue.ready:
                self.notified(index)

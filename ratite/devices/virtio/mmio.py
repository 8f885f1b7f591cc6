"""The virtio transport over memory-mapped registers.

Source: Virtio 1.2, chapter 4.2 (virtio over MMIO); 4.2.4 for the legacy interface.
Not modelled: shared memory regions (none exists, and reads say so).
"""

from __future__ import annotations

from typing import Annotated

from ratite.core.clock import Clock
from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.register import Register, State
from ratite.devices.virtio.device import LEGACY_ONLY, Status, VirtioBus, VirtioDevice
from ratite.devices.virtio.feature import F_RING_RESET, F_VERSION_1
from ratite.devices.virtio.queue import VirtQueue
from ratite.devices.wire import Wire
from ratite.memory import AccessSizes, AddressSpace
from ratite.qom import Doc, Named

CONFIG = 0x100
_MASK32 = 0xFFFF_FFFF


@TraceEvent
def virtio_mmio_read(offset: int, value: int) -> str:
    """The guest has read a register or the configuration space."""
    return f"offset 0x{offset:x} value 0x{value:x}"


@TraceEvent
def virtio_mmio_write_offset(offset: int, value: int) -> str:
    """The guest writes a register or the configuration space."""
    return f"offset 0x{offset:x} value 0x{value:x}"


@TraceEvent
def virtio_mmio_guest_page(size: int, shift: int) -> str:
    """A legacy driver tells its page size."""
    return f"size 0x{size:x} shift {shift}"


@TraceEvent
def virtio_mmio_queue_write(value: int, max_size: int) -> str:
    """The driver chooses the size of the selected queue."""
    return f"value 0x{value:x} max {max_size}"


@TraceEvent
def virtio_mmio_setting_irq(level: bool) -> str:
    """The interrupt of a transport changes."""
    return f"level {level:d}"


class VirtioMmioBus(VirtioBus):
    """The bus of one virtio-mmio transport."""

    type_name = "virtio-mmio-bus"


class VirtioMmio(Device):
    """A slot for one virtio device; without one it says DeviceID 0.

    `number` makes the name of its bus, `virtio-mmio-bus.NUMBER`.
    """

    type_name = "virtio-mmio"
    mmio_size = 0x200
    mmio_valid = AccessSizes(1, 8)
    mmio_impl = AccessSizes(1, 4)
    read_event, write_event = virtio_mmio_read, virtio_mmio_write_offset

    MagicValue = Register(0x000, "ro", reset=0x7472_6976)
    Version = Register(0x004, "ro")
    DeviceID = Register(0x008, "ro")
    VendorID = Register(0x00C, "ro", reset=0x554D_4551)
    DeviceFeatures = Register(0x010, "ro")
    DeviceFeaturesSel = Register(0x014, "wo")
    DriverFeatures = Register(0x020, "wo")
    DriverFeaturesSel = Register(0x024, "wo")
    GuestPageSize = Register(0x028, "wo")  # legacy
    QueueSel = Register(0x030, "wo")
    QueueNumMax = Register(0x034, "ro")
    QueueNum = Register(0x038, "wo")
    QueueAlign = Register(0x03C, "wo")  # legacy
    QueuePFN = Register(0x040)  # legacy
    QueueReady = Register(0x044, mask=1)
    QueueNotify = Register(0x050, "wo")
    InterruptStatus = Register(0x060, "ro")
    InterruptACK = Register(0x064, "wo")
    StatusRegister = Register(0x070)
    QueueDescLow = Register(0x080, "wo")
    QueueDescHigh = Register(0x084, "wo")
    QueueDriverLow = Register(0x090, "wo")
    QueueDriverHigh = Register(0x094, "wo")
    QueueDeviceLow = Register(0x0A0, "wo")
    QueueDeviceHigh = Register(0x0A4, "wo")
    SHMSel = Register(0x0AC, "wo")
    SHMLenLow = Register(0x0B0, "ro", reset=_MASK32)
    SHMLenHigh = Register(0x0B4, "ro", reset=_MASK32)
    SHMBaseLow = Register(0x0B8, "ro", reset=_MASK32)
    SHMBaseHigh = Register(0x0BC, "ro", reset=_MASK32)
    QueueReset = Register(0x0C0, mask=1)
    ConfigGeneration = Register(0x0FC, "ro")

    device_features_sel = State(0)
    driver_features_sel = State(0)
    driver_features = State(0)  # as written; the device has those that it accepted
    queue_sel = State(0)
    guest_page_size = State(0)
    # Legacy, by queue; 4096 if not set.
    queue_align = State[list[int]](factory=lambda _: [], element=0)

    def __init__(
        self,
        memory: AddressSpace,
        clock: Clock,
        number: int,
        *,
        format_transport_address: Annotated[
            bool, Named("format_transport_address"), Doc("accepted, without effect")
        ] = True,
        force_legacy: Annotated[bool, Doc("legacy registers, version 1")] = True,
        ioeventfd: Annotated[bool, Doc("accepted, without effect")] = True,
    ) -> None:
        self.memory = memory
        self.clock = clock
        self.force_legacy = force_legacy
        self.ioeventfd = ioeventfd
        self.format_transport_address = format_transport_address
        self.mmio_endianness = "native" if force_legacy else "little"
        self.device: VirtioDevice | None = None
        super().__init__()
        self.bus = VirtioMmioBus(f"virtio-mmio-bus.{number}", self, self)
        self.add_bus(self.bus)

    def fdt(self, node: FdtNode) -> None:
        """Describe the transport; what sits on it the driver finds out."""
        node.set("compatible", "virtio,mmio")

    # -- the transport's services

    def plugged(self, device: VirtioDevice, /) -> None:
        """Present this device from now on."""
        self.device = device

    def unplugged(self) -> None:
        """Present no device any more."""
        self.device = None
        self.InterruptStatus = 0
        self.update_wires()

    def interrupt(self, reason: int, /) -> None:
        """Raise the interrupt for this reason."""
        self.InterruptStatus |= reason
        if trace := self.log.trace:
            trace(virtio_mmio_setting_irq, self.InterruptStatus != 0)
        self.update_wires()

    @Wire
    def irq(self) -> bool:
        """High while a reason is not acknowledged."""
        return self.InterruptStatus != 0

    def reset_hold(self) -> None:
        """Drop interrupts of requests that the device's own reset has finished."""
        self.InterruptStatus = 0

    # -- access: the configuration space has no registers of its own

    def read(self, offset: int, size: int = 4) -> int:
        """Read by the guest. Runs: per MMIO read."""
        if offset >= CONFIG:
            return self._read_config(offset - CONFIG, size)
        if size != 4 or offset & 3:
            self.guest_error(f"read of {size} bytes at {offset:#x}: registers have 4")
            return 0
        if self.device is None and offset not in (0x000, 0x004, 0x00C):
            return 0
        return super().read(offset, 4)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write by the guest. Runs: per MMIO write."""
        if self.device is None:
            return  # a probe for a device that is not there
        if offset >= CONFIG:
            self._write_config(offset - CONFIG, value, size)
        elif size != 4 or offset & 3:
            self.guest_error(f"write of {size} bytes at {offset:#x}: registers have 4")
        else:
            super().write(offset, value, 4)

    def _read_config(self, offset: int, size: int) -> int:
        if self.device is None:
            return 0
        return int.from_bytes(self.device.read_config()[offset : offset + size], "little")

    def _write_config(self, offset: int, value: int, size: int) -> None:
        if self.device is None or offset + size > len(self.device.read_config()):
            self.guest_error(f"write beyond the configuration space at {offset:#x}")
            return
        self.device.write_config(offset, value, size)
        self.update_wires()

    # -- identification and features

    @Version.on_read
    def _version(self) -> int:
        return 1 if self.force_legacy else 2

    @DeviceID.on_read
    def _device_id(self) -> int:
        return self.device.device_id if self.device is not None else 0

    @ConfigGeneration.on_read
    def _config_generation(self) -> int:
        if self.force_legacy:
            return self._not_here("ConfigGeneration")
        return self.device.generation if self.device is not None else 0

    def _offered(self) -> int:
        if self.device is None:
            return 0
        features = self.device.offered_features
        if self.force_legacy:
            return features & _MASK32
        return features & ~LEGACY_ONLY

    @DeviceFeatures.on_read
    def _device_features(self) -> int:
        if self.device_features_sel > 1:
            return 0
        return self._offered() >> 32 * self.device_features_sel & _MASK32

    @DeviceFeaturesSel.on_write
    def _select_device_features(self, value: int) -> None:
        self.device_features_sel = value

    @DriverFeaturesSel.on_write
    def _select_driver_features(self, value: int) -> None:
        self.driver_features_sel = value

    @DriverFeatures.on_write
    def _accept_features(self, value: int) -> None:
        device = self.device
        if device is None or self.driver_features_sel > 1:
            return
        if device.status & Status.FEATURES_OK:
            self.guest_error("features written after FEATURES_OK")
            return
        shift = 32 * self.driver_features_sel
        self.driver_features = self.driver_features & ~(_MASK32 << shift) | value << shift
        if self.force_legacy:
            device.accept_features(self.driver_features & self._offered())

    # -- status and interrupts

    @StatusRegister.on_read
    def _status(self) -> int:
        return self.device.status if self.device is not None else 0

    @StatusRegister.on_write
    def _set_status(self, value: int) -> None:
        device = self.device
        if device is None:
            return
        value &= 0xFF
        if value == 0:
            # The page size describes the guest, not the device's set-up: Linux writes it once,
            # before it resets the device.
            page_size = self.guest_page_size
            device.restart()
            self.reset_enter()
            self.guest_page_size = page_size
            return
        if value & ~device.status & Status.FEATURES_OK and not self._features_ok(device):
            value &= ~Status.FEATURES_OK
        device.set_status(value)

    def _features_ok(self, device: VirtioDevice) -> bool:
        if self.force_legacy:
            return True
        wanted = self.driver_features
        known = not wanted & ~self._offered()
        if not known or not wanted & F_VERSION_1:
            self.guest_error(f"the driver's choice of features {wanted:#x} is not possible")
            return False
        return device.accept_features(wanted)

    @InterruptACK.on_write
    def _acknowledge(self, value: int) -> None:
        self.InterruptStatus &= ~value
        if trace := self.log.trace:
            trace(virtio_mmio_setting_irq, self.InterruptStatus != 0)

    # -- queues

    def _queue(self) -> VirtQueue | None:
        if self.device is None or self.queue_sel >= len(self.device.queues):
            return None
        return self.device.queues[self.queue_sel]

    def _queue_in_setup(self, register: str) -> VirtQueue | None:
        """The selected queue, if its set-up may be changed now."""
        queue = self._queue()
        if queue is None or queue.ready:
            self.guest_error(f"write to {register} of queue {self.queue_sel} at the wrong time")
            return None
        return queue

    def _not_here(self, register: str) -> int:
        kind = "legacy" if self.force_legacy else "modern"
        self.guest_error(f"use of {register}, which a {kind} device has not")
        return 0

    @QueueSel.on_write
    def _select_queue(self, value: int) -> None:
        self.queue_sel = value

    @QueueNumMax.on_read
    def _queue_num_max(self) -> int:
        queue = self._queue()
        return queue.max_size if queue is not None else 0

    @QueueNum.on_write
    def _set_queue_num(self, value: int) -> None:
        queue = self._queue_in_setup("QueueNum")
        if queue is not None:
            if trace := self.log.trace:
                trace(virtio_mmio_queue_write, value, queue.max_size)
            queue.size = value  # an impossible one breaks the device at its first use

    @QueueNotify.on_write
    def _notify(self, value: int) -> None:
        device = self.device
        if device is None:
            return
        if not (self.force_legacy or device.status & Status.DRIVER_OK):
            self.guest_error("notification before DRIVER_OK")
            return
        device.notified(value)

    @QueueReady.on_read
    def _queue_ready(self) -> int:
        if self.force_legacy:
            return self._not_here("QueueReady")
        queue = self._queue()
        return int(queue is not None and queue.ready)

    @QueueReady.on_write
    def _set_queue_ready(self, value: int) -> None:
        queue = self._queue()
        if self.force_legacy:
            self._not_here("QueueReady")
        elif self.device is None or queue is None or self.device.is_broken:
            self.guest_error(f"queue {self.queue_sel} cannot be made ready")
        elif not value:
            queue.ready = False
        elif not queue.ready:
            self.device.enable_queue(queue)

    @QueueReset.on_read
    def _queue_reset(self) -> int:
        return self._not_here("QueueReset") if self.force_legacy else 0  # done at once

    @QueueReset.on_write
    def _reset_queue(self, value: int) -> None:
        queue = self._queue()
        if self.device is None or queue is None or not self.device.has(F_RING_RESET):
            self.guest_error(f"reset of queue {self.queue_sel} is not possible")
        elif value:
            self.device.queue_reset(queue)

    def _set_address(self, name: str, value: int, *, high: bool) -> None:
        if self.force_legacy:
            self._not_here("the queue address registers")
            return
        queue = self._queue_in_setup("a queue address")
        if queue is None:
            return
        shift = 32 if high else 0
        old: int = getattr(queue, name)
        setattr(queue, name, old & ~(_MASK32 << shift) | value << shift)

    @QueueDescLow.on_write
    def _desc_low(self, value: int) -> None:
        self._set_address("descriptors", value, high=False)

    @QueueDescHigh.on_write
    def _desc_high(self, value: int) -> None:
        self._set_address("descriptors", value, high=True)

    @QueueDriverLow.on_write
    def _driver_low(self, value: int) -> None:
        self._set_address("available", value, high=False)

    @QueueDriverHigh.on_write
    def _driver_high(self, value: int) -> None:
        self._set_address("available", value, high=True)

    @QueueDeviceLow.on_write
    def _device_low(self, value: int) -> None:
        self._set_address("used", value, high=False)

    @QueueDeviceHigh.on_write
    def _device_high(self, value: int) -> None:
        self._set_address("used", value, high=True)

    # -- legacy queues: one block of pages, found by its number

    @GuestPageSize.on_write
    def _set_page_size(self, value: int) -> None:
        if not self.force_legacy or value & (value - 1):
            self.guest_error(f"GuestPageSize {value:#x} is not possible")
            return
        self.guest_page_size = value
        if trace := self.log.trace:
            trace(virtio_mmio_guest_page, value, max(0, value.bit_length() - 1))

    @QueueAlign.on_write
    def _set_queue_align(self, value: int) -> None:
        if not self.force_legacy or not value or value & (value - 1):
            self.guest_error(f"QueueAlign {value:#x} is not possible")
            return
        if self._queue_in_setup("QueueAlign") is not None:
            missing = self.queue_sel + 1 - len(self.queue_align)
            self.queue_align += [4096] * missing
            self.queue_align[self.queue_sel] = value

    @QueuePFN.on_read
    def _queue_pfn(self) -> int:
        if not self.force_legacy:
            return self._not_here("QueuePFN")
        queue = self._queue()
        if queue is None or not queue.ready or not self.guest_page_size:
            return 0
        return queue.descriptors // self.guest_page_size & _MASK32

    @QueuePFN.on_write
    def _set_queue_pfn(self, value: int) -> None:
        if not self.force_legacy:
            self._not_here("QueuePFN")
            return
        queue = self._queue()
        if queue is None or self.device is None:
            self.guest_error(f"queue {self.queue_sel} does not exist")
            return
        if value == 0:
            self.device.queue_reset(queue)
            return
        if queue.ready or not self.guest_page_size or self.device.is_broken:
            self.guest_error(f"QueuePFN {value:#x} at the wrong time")
            return
        align = 4096
        if self.queue_sel < len(self.queue_align):
            align = self.queue_align[self.queue_sel]
        queue.descriptors = value * self.guest_page_size
        queue.available = queue.descriptors + 16 * queue.size
        end = queue.available + 6 + 2 * queue.size
        queue.used = (end + align - 1) & ~(align - 1)
        self.device.enable_queue(queue)

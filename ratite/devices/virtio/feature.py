"""Feature bits that know their names, for those who look at a device from outside.

Source: Virtio 1.2, chapter 6 (reserved feature bits); names are those of Linux's headers.
"""

from __future__ import annotations


class FeatureBit(int):
    """The mask of one feature bit; `name` and `text` say what it is."""

    name: str
    text: str

    def __new__(cls, bit: int, name: str, text: str) -> FeatureBit:
        """The mask of bit number `bit`."""
        made = super().__new__(cls, 1 << bit)
        made.name, made.text = name, text
        return made


F_NOTIFY_ON_EMPTY = FeatureBit(
    24, "VIRTIO_F_NOTIFY_ON_EMPTY", "Interrupt when no buffers are left (legacy)"
)
F_ANY_LAYOUT = FeatureBit(27, "VIRTIO_F_ANY_LAYOUT", "Any arrangement of descriptors (legacy)")
F_RING_INDIRECT_DESC = FeatureBit(28, "VIRTIO_RING_F_INDIRECT_DESC", "Indirect descriptors")
F_RING_EVENT_IDX = FeatureBit(29, "VIRTIO_RING_F_EVENT_IDX", "Event indexes in the rings")
F_VERSION_1 = FeatureBit(32, "VIRTIO_F_VERSION_1", "Virtio 1.0 or later")
F_ACCESS_PLATFORM = FeatureBit(
    33, "VIRTIO_F_IOMMU_PLATFORM", "Memory is accessed as the platform lets devices"
)
F_RING_RESET = FeatureBit(40, "VIRTIO_F_RING_RESET", "Reset of single queues")

RING_FEATURES = (
    F_RING_EVENT_IDX,
    F_RING_INDIRECT_DESC,
    F_VERSION_1,
    F_ANY_LAYOUT,
    F_NOTIFY_ON_EMPTY,
    F_ACCESS_PLATFORM,
    F_RING_RESET,
)
"""Those that are not about one type of device."""

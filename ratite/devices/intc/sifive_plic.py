"""RISC-V platform-level interrupt controller, as SiFive lays it out.

Source: RISC-V Platform-Level Interrupt Controller specification 1.0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ratite.core.errors import ConfigError
from ratite.core.trace import TraceEvent
from ratite.devices.device import Device
from ratite.devices.fdt import FdtNode
from ratite.devices.intc.hart import HartIrq, HartPins
from ratite.devices.register import State
from ratite.devices.wire import Input
from ratite.memory import AccessSizes
from ratite.qom import UInt32

_MODES = {"U": HartIrq.UEIP, "S": HartIrq.SEIP, "H": HartIrq.HEIP, "M": HartIrq.MEIP}
_MASK32 = 0xFFFF_FFFF
_MAX_SOURCES = 1023


@TraceEvent
def sifive_plic_read(addr: int, value: int) -> str:
    """The guest has read a register of the PLIC."""
    return f"addr 0x{addr:06x} value 0x{value:08x}"


@TraceEvent
def sifive_plic_write(addr: int, value: int) -> str:
    """The guest writes a register of the PLIC."""
    return f"addr 0x{addr:06x} value 0x{value:08x}"


@TraceEvent
def sifive_plic_set_irq(source: int, level: bool) -> str:
    """The input of a source has changed."""
    return f"source {source} level {level:d}"


@TraceEvent
def sifive_plic_claim(context: int, source: int) -> str:
    """The guest has claimed a source; 0 if none was pending."""
    return f"context {context} source {source}"


@TraceEvent
def sifive_plic_complete(context: int, source: int) -> str:
    """The guest says that it has served a source."""
    return f"context {context} source {source}"


class SifivePlic(Device):
    """Takes level-sensitive sources, by priority, to contexts: one for each hart and mode of
    `hart-config`.

    `hart-config` lists the modes of each hart, as in "MS,MS". Sources are 1 to
    `num-sources`; 0 means none.
    """

    type_name = "riscv.sifive.plic"
    mmio_valid = AccessSizes(4, 4)
    mmio_impl = AccessSizes(4, 4)
    read_event, write_event = sifive_plic_read, sifive_plic_write

    priority = State[list[int]](factory=lambda plic: [0] * (plic.num_sources + 1))
    enabled = State[list[int]](factory=lambda plic: [0] * len(plic.contexts))  # bit n: source n
    threshold = State[list[int]](factory=lambda plic: [0] * len(plic.contexts))
    pending = State(0)  # bit n: source n waits to be claimed
    claimed = State(0)  # bit n: source n was claimed and is not completed
    levels = State(0, kept=True)  # bit n: the input of source n is high

    def __init__(
        self,
        harts: Sequence[HartPins],
        *,
        hart_config: str = "MS",
        hartid_base: UInt32 = 0,
        num_sources: UInt32 = 96,
        num_priorities: UInt32 = 7,
        priority_base: UInt32 = 4,
        pending_base: UInt32 = 0x1000,
        enable_base: UInt32 = 0x2000,
        enable_stride: UInt32 = 0x80,
        context_base: UInt32 = 0x20_0000,
        context_stride: UInt32 = 0x1000,
        aperture_size: UInt32 = 0x60_0000,
    ) -> None:
        self.harts = harts
        self.hart_config = hart_config
        self.hartid_base = hartid_base
        self.num_sources = num_sources
        self.num_priorities = num_priorities
        self.priority_base = priority_base
        self.pending_base = pending_base
        self.enable_base = enable_base
        self.enable_stride = enable_stride
        self.context_base = context_base
        self.context_stride = context_stride
        self.aperture_size = aperture_size
        self.mmio_size = aperture_size
        self.contexts = [
            (hart, mode) for hart, modes in enumerate(hart_config.split(",")) for mode in modes
        ]
        self._inputs: dict[int, Input] = {}
        self._outputs: list[bool | None] = [None] * len(self.contexts)
        self._sources_mask = (1 << num_sources + 1) - 2
        super().__init__()

    @property
    def inputs(self) -> int:
        """One for each source."""
        return self.num_sources

    @property
    def outputs(self) -> int:
        """One for each context."""
        return len(self.contexts)

    def realize(self) -> None:
        """Check the properties against the machine and each other."""
        name = self.type_name
        if wrong := [mode for _, mode in self.contexts if mode not in _MODES]:
            raise ConfigError(f"{name}: hart-config '{self.hart_config}' has a mode '{wrong[0]}'")
        if self.contexts and self.contexts[-1][0] >= len(self.harts):
            raise ConfigError(
                f"{name}: hart-config '{self.hart_config}' names more than {len(self.harts)} harts"
            )
        if not 1 <= self.num_sources <= _MAX_SOURCES:
            raise ConfigError(f"{name}: num-sources must be 1 to {_MAX_SOURCES}")
        if self.context_base + len(self.contexts) * self.context_stride > self.aperture_size:
            raise ConfigError(f"{name}: aperture-size is too small for the contexts")
        super().realize()

    @property
    def input_numbers(self) -> range:
        """The sources."""
        return range(1, self.num_sources + 1)

    def input(self, source: int) -> Input:
        """The pin of a source, 1 to `num_sources`."""
        if not 1 <= source <= self.num_sources:
            raise ConfigError(
                f"{self.type_name}: there is no source {source},"
                f" only 1 to {self.num_sources} (num-sources)"
            )
        return self._inputs.setdefault(source, Input(source, self._set_level))

    def update_wires(self) -> None:
        """Drive every context's output to what the state says."""
        for context in range(len(self.contexts)):
            level = self._best(context) != 0
            if level is not self._outputs[context]:
                self._outputs[context] = level
                hart, mode = self.contexts[context]
                self.harts[hart].set_irq(_MODES[mode], level)

    def reset_exit(self) -> None:
        """Sources that are high are requests anew."""
        self.pending = self.levels
        self._outputs = [None] * len(self.contexts)  # harts forget their inputs at reset
        super().reset_exit()

    def loaded(self) -> None:
        """Drive the inputs of the harts anew."""
        self._outputs = [None] * len(self.contexts)

    def fdt(self, node: FdtNode) -> None:
        """Describe the device."""
        node.set("compatible", ["sifive,plic-1.0.0", "riscv,plic0"])
        node.set("interrupt-controller", None)
        node.set("#interrupt-cells", 1)
        node.set("#address-cells", 0)
        node.set("riscv,ndev", self.num_sources)

    # -- what the sources do

    def _set_level(self, source: int, level: bool) -> None:
        if trace := self.log.trace:
            trace(sifive_plic_set_irq, source, level)
        bit = 1 << source
        if level:
            self.levels |= bit
            if not self.claimed & bit and not self.pending & bit:
                self.pending |= bit
                self.update_wires()
        else:
            # A request that was forwarded stays: a gateway cannot take it back.
            self.levels &= ~bit

    def _best(self, context: int) -> int:
        """The source this context would claim: highest priority above its threshold, lowest number;
        0 for none.
        """
        waiting = self.pending & self.enabled[context]
        best, best_priority = 0, self.threshold[context]
        while waiting:
            source = (waiting & -waiting).bit_length() - 1
            waiting &= waiting - 1
            if self.priority[source] > best_priority:
                best, best_priority = source, self.priority[source]
        return best

    # -- what the guest does

    def read(self, offset: int, size: int = 4) -> int:
        """Read a register.

        Runs: per MMIO read.
        """
        reader = self._readers.get(offset << 4 | size)
        if reader is None:
            self.guest_error(f"read of {size} bytes at {offset:#x}, where no register is")
            return 0
        return reader()

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register.

        Runs: per MMIO write.
        """
        writer = self._writers.get(offset << 4 | size)
        if writer is None:
            self.guest_error(
                f"write of {value:#x} at {offset:#x}, where no register can be written"
            )
            return
        writer(value)
        self.update_wires()

    def _build_dispatch(self) -> None:
        for source in self.input_numbers:
            offset = self.priority_base + 4 * (source - 1)
            self._offer(
                offset, partial(self._priority, source), partial(self._set_priority, source)
            )
        words = self.num_sources // 32 + 1
        for word in range(words):
            self._offer(self.pending_base + 4 * word, partial(self._pending_word, word), None)
        for context in range(len(self.contexts)):
            for word in range(words):
                self._offer(
                    self.enable_base + context * self.enable_stride + 4 * word,
                    partial(self._enable_word, context, word),
                    partial(self._set_enable_word, context, word),
                )
            base = self.context_base + context * self.context_stride
            self._offer(
                base, partial(self._threshold, context), partial(self._set_threshold, context)
            )
            self._offer(base + 4, partial(self._claim, context), partial(self._complete, context))

    def _offer(
        self, offset: int, reader: Callable[[], int], writer: Callable[[int], None] | None
    ) -> None:
        self._readers[offset << 4 | 4] = reader
        if writer is not None:
            self._writers[offset << 4 | 4] = writer

    def _legal_priority(self, value: int) -> int:
        """What a priority register holds after this is written to it: as many low bits as the
        levels need.
        """
        value &= (1 << self.num_priorities.bit_length()) - 1
        return min(value, self.num_priorities)

    def _priority(self, source: int) -> int:
        return self.priority[source]

    def _set_priority(self, source: int, value: int) -> None:
        self.priority[source] = self._legal_priority(value)

    def _pending_word(self, word: int) -> int:
        return self.pending >> 32 * word & _MASK32

    def _enable_word(self, context: int, word: int) -> int:
        return self.enabled[context] >> 32 * word & _MASK32

    def _set_enable_word(self, context: int, word: int, value: int) -> None:
        kept = self.enabled[context] & ~(_MASK32 << 32 * word)
        self.enabled[context] = (kept | value << 32 * word) & self._sources_mask

    def _threshold(self, context: int) -> int:
        return self.threshold[context]

    def _set_threshold(self, context: int, value: int) -> None:
        self.threshold[context] = self._legal_priority(value)

    def _claim(self, context: int) -> int:
        source = self._best(context)
        if trace := self.log.trace:
            trace(sifive_plic_claim, context, source)
        if source:
            self.pending &= ~(1 << source)
            self.claimed |= 1 << source
            self.update_wires()
        return source

    def _complete(self, context: int, source: int) -> None:
        if trace := self.log.trace:
            trace(sifive_plic_complete, context, source)
        bit = 1 << source if source <= self.num_sources else 0
        if not bit & self.enabled[context]:
            self.guest_error(f"completion of {source}, which is not enabled in context {context}")
            return
        if self.claimed & bit:
            self.claimed &= ~bit
            self.pending |= self.levels & bit

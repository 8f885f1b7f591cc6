"""The interrupt lines that a test program watches and drives: by QOM object and number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

from ratite.cpu.riscv import RiscvVcpu
from ratite.devices import Device, Input, Pin
from ratite.devices.intc.riscv_aclint import AclintMtimer, AclintSwi
from ratite.devices.intc.sifive_plic import SifivePlic
from ratite.machines.machine import Machine
from ratite.qom import Object

Report = Callable[[int, bool], None]


class UnknownDevice(Exception):
    """No such device, or no such line of it."""


@runtime_checkable
class HasInputs(Protocol):
    """A device with numbered inputs."""

    @property
    def input_numbers(self) -> range:
        """Their numbers."""

    def input(self, number: int, /) -> Input:
        """One of them."""


def hart_of(machine: Machine, target: Object) -> RiscvVcpu | None:
    """The hart whose object this is."""
    harts = (vcpu for vcpu in machine.vcpus if isinstance(vcpu, RiscvVcpu))
    return next((hart for hart in harts if hart.model is target), None)


# No device has inputs by other names.
UNNAMED_INPUTS = "unnamed-gpio-in"


def input_pin(machine: Machine, target: Object, number: int) -> Pin:
    """An input of a device or hart. Raises `UnknownDevice`."""
    hart = hart_of(machine, target)
    if hart is not None and number < 64:
        return partial(hart.set_irq, number)
    if isinstance(target, HasInputs) and number in target.input_numbers:
        return target.input(number)
    raise UnknownDevice


def _bits_of(target: Object) -> tuple[int, ...]:
    """The bits of mip that an interrupt controller drives in each hart; its outputs are numbered
    through the harts for the first of them, then for the next.
    """
    match target:
        case SifivePlic():
            return (9, 11)
        case AclintMtimer():
            return (7,)
        case AclintSwi():
            return (1,) if target.sswi else (3,)
    return ()


class InterruptTap:
    """Tells every change of a device's inputs or outputs, which work as before."""

    def __init__(
        self, machine: Machine, target: Object, name: str | None, report: Report, *, outputs: bool
    ) -> None:
        """Raises `UnknownDevice` if the object has no such lines."""
        self.target = target
        self.enabled = True
        self._report = report
        self._levels: dict[int, bool] = {}
        lines = self._outputs(machine, name) if outputs else self._inputs(machine, name)
        if not list(lines):
            raise UnknownDevice

    def _changed(self, number: int, level: bool) -> None:
        if self._levels.get(number, False) is not bool(level):
            self._levels[number] = bool(level)
            if self.enabled:
                self._report(number, level)

    def _inputs(self, machine: Machine, name: str | None) -> Iterator[int]:
        hart = hart_of(machine, self.target)
        if name is not None:
            return
        if hart is not None:
            hart.irq_observers.append(self._changed)
            yield 0
        elif isinstance(self.target, HasInputs):
            for number in self.target.input_numbers:
                self.target.input(number).observers.append(self._changed)
                yield number

    def _outputs(self, machine: Machine, name: str | None) -> Iterator[int]:
        if not isinstance(self.target, Device):
            return
        for number, wire in enumerate(self.target.wires):
            if name in (None, "sysbus-irq", wire.name):
                wire.connect(partial(self._changed, number))
                yield number
        bits = _bits_of(self.target)
        harts = [vcpu for vcpu in machine.vcpus if isinstance(vcpu, RiscvVcpu)]
        for hart in harts if name is None and bits else ():
            places = {bit: index * len(harts) + hart.index for index, bit in enumerate(bits)}
            hart.irq_observers.append(partial(self._hart_changed, places))
            yield hart.index

    def _hart_changed(self, places: dict[int, int], bit: int, level: bool) -> None:
        if bit in places:
            self._changed(places[bit], level)


__all__ = ["InterruptTap", "UnknownDevice", "input_pin"]

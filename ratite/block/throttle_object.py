"""The limits of a group of drives as an object of the user's.

Source: QEMU's QMP reference, "ThrottleGroupProperties", "ThrottleLimits".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ratite.block.throttle import KINDS, Limits, ThrottleGroup
from ratite.core.errors import ConfigError
from ratite.qom import Object, Property, PropertyError, Resolver
from ratite.qom.property import INT64, Form

_PART = {"total": "", "read": "_rd", "write": "_wr"}
_BURST_LENGTH = "-max-length"
LIMITS = MappingProxyType(  # the names of clients, and those of `Limits.of`
    {
        **{
            f"{unit}-{part}{end}": f"{unit}{short}{end.replace('-', '_')}"
            for unit in ("bps", "iops")
            for part, short in _PART.items()
            for end in ("", "-max", _BURST_LENGTH)
        },
        "iops-size": "iops_size",
    }
)


def _single(name: str) -> Property:
    """The property of one limit."""
    default = 0
    what = "bytes per second" if name.startswith("bps") else "requests per second"
    if name.endswith(_BURST_LENGTH):
        default, what = 1, "seconds that a burst may last"
    elif name.endswith("-max"):
        what += " in a burst"
    elif name == "iops-size":
        what = "bytes from which on a request counts as several"
    attribute = f"single.{name}"
    return Property(
        f"x-{name}", attribute, Form.INT, "int", default, what, *INT64, range_name="int64"
    )


class ThrottleGroupObject(Object):
    """Limits that drives share: those that name it as their `throttling.group`. They can be set
    anew, all at once, as `limits`.
    """

    type_name = "throttle-group"

    def __init__(
        self,
        *,
        limits: Mapping[str, int] = MappingProxyType({}),
        single: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Limits by the names of clients; `single` are those of the `x-` properties."""
        self._given = {**limits, **single}
        self.group: ThrottleGroup | None = None
        """Whoever makes it puts the group here, before `complete`."""
        super().__init__()

    @classmethod
    def properties(cls) -> Mapping[str, Property]:
        """Each limit, and all of them as one value."""
        all_of_them = Property(
            "limits",
            "limits",
            Form.NUMBERS,
            "ThrottleLimits",
            MappingProxyType({}),
            "all limits at once, 0 for none",
            choices=tuple((name, name) for name in LIMITS),
        )
        single = {f"x-{name}": _single(name) for name in LIMITS}
        return {"limits": all_of_them, **single}

    def complete(self) -> None:
        """Limit the group. Raises `ConfigError`."""
        assert self.group is not None
        self.group.set(_limits(self._given))

    @property
    def in_use(self) -> bool:
        """Whether drives share it."""
        return self.group is not None and bool(self.group.members)

    def get_property(self, name: str) -> object:
        """A property as JSON can hold it. Raises `PropertyError`."""
        assert self.group is not None
        values = _values(self.group.limits)
        if name == "limits":
            return values
        if name.removeprefix("x-") in values and name.startswith("x-"):
            return values[name.removeprefix("x-")]
        return super().get_property(name)

    def set_property(
        self, name: str, value: object, resolve: Resolver | None = None, *, strict: bool = False
    ) -> None:
        """Set `limits`: those that the value names. Raises `PropertyError`, `ConfigError`."""
        entry = self.properties().get(name)
        if entry is None or self.group is None:
            super().set_property(name, value, resolve, strict=strict)
        elif name != "limits":
            raise PropertyError("Property cannot be set after initialization")
        else:
            wanted = entry.parse(self.type_name, value, resolve, strict=strict)
            self.group.set(_limits({**_values(self.group.limits), **wanted}))


def _limits(values: Mapping[str, int]) -> Limits:
    for name, value in values.items():
        if name.endswith(_BURST_LENGTH) and not 0 <= value < 1 << 32:
            raise ConfigError(f"{name} value must be in the range [0, {(1 << 32) - 1}]")
    return Limits.of({LIMITS[name]: value for name, value in values.items()})


def _values(limits: Limits) -> dict[str, int]:
    """By the names of clients."""
    known = {"iops_size": limits.iops_size}
    for kind in KINDS:
        rate = limits.rate(kind)
        known |= {
            kind: rate.average,
            f"{kind}_max": rate.burst,
            f"{kind}_max_length": rate.burst_s,
        }
    return {name: known[short] for name, short in LIMITS.items()}

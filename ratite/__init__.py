"""ratite: a machine emulator and virtualizer. `Vm` is a machine; see `ratite.vm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.version import VERSION

if TYPE_CHECKING:
    from ratite.core.errors import ConfigError, HostError, RatiteError
    from ratite.vm import ExpectTimeout, RegisterView, Serial, Vm

__version__ = VERSION
__all__ = [
    "ConfigError",
    "ExpectTimeout",
    "HostError",
    "RatiteError",
    "RegisterView",
    "Serial",
    "Vm",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: the command line answers `-version` without it."""
    if name in ("ConfigError", "HostError", "RatiteError"):
        import ratite.core.errors as errors

        return getattr(errors, name)
    if name in __all__:
        import ratite.vm as vm

        return getattr(vm, name)
    raise AttributeError(name)

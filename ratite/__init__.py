"""ratite: a machine emulator and virtualizer. `Vm` is a machine; see `ratite.vm`."""

from __future__ import annotations

from ratite.version import VERSION

TYPE_CHECKING = False  # type checkers know the name; importing typing takes a third of `-version`
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


def __getattr__(name: str) -> object:
    """Import the API when it is first used: the command line answers `-version` without it."""
    if name in ("ConfigError", "HostError", "RatiteError"):
        import ratite.core.errors as errors

        found: object = getattr(errors, name)
        return found
    if name in __all__:
        import ratite.vm as vm

        found = getattr(vm, name)
        return found
    raise AttributeError(name)

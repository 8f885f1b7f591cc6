"""ratite: a machine emulator and virtualizer. `Vm` is a machine; see `ratite.vm`."""

from __future__ import annotations

from ratite.version import VERSION

TYPE_CHECKING = False  # type checkers know the name; importing typing takes a third of `-version`
if TYPE_CHECKING:
    from ratite.chardev.expect import ExpectTimeout, Serial
    from ratite.core.errors import ConfigError, HostError, RatiteError
    from ratite.cpu.register_view import RegisterView
    from ratite.vm import Vm

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
    if name not in __all__:
        raise AttributeError(name)
    import importlib

    place = {
        "ConfigError": "core.errors",
        "HostError": "core.errors",
        "RatiteError": "core.errors",
        "ExpectTimeout": "chardev.expect",
        "Serial": "chardev.expect",
        "RegisterView": "cpu.register_view",
    }.get(name, "vm")
    found: object = getattr(importlib.import_module(f"ratite.{place}"), name)
    return found

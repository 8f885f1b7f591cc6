"""TCP ports as users write them."""

from __future__ import annotations

from ratite.core.errors import ConfigError

HIGHEST = 65535


def check_port(port: str) -> None:
    """Refuse a number that is no port; a name is left to the resolver, which would take a number
    modulo 65536. Raises `ConfigError`.
    """
    digits = port.lstrip("+-")
    if digits.isdecimal() and not (len(digits) < 20 and 0 <= int(port) <= HIGHEST):
        raise ConfigError(f"port {port} is out of range: 0 to {HIGHEST}")

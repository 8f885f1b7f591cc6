"""Errors that a client can act on; their classes are part of the protocol.

Source: QEMU's QMP specification, "Error"; the classes are those of its QapiErrorClass.
"""

from __future__ import annotations

from typing import ClassVar


class QmpError(Exception):
    """A command that cannot be done. The text is for people, `error_class` for programs."""

    error_class: ClassVar[str] = "GenericError"


class CommandNotFound(QmpError):
    """There is no such command, or not now."""

    error_class = "CommandNotFound"


class DeviceNotFound(QmpError):
    """There is no such device or object."""

    error_class = "DeviceNotFound"


class DeviceNotActive(QmpError):
    """The machine has no device that could do this."""

    error_class = "DeviceNotActive"


class KvmMissingCap(QmpError):
    """The host's KVM lacks what this needs."""

    error_class = "KVMMissingCap"


def missing(where: str) -> QmpError:
    """A member that must be there is not."""
    return QmpError(f"Parameter '{where}' is missing")


def unexpected(where: str) -> QmpError:
    """A member that nobody knows."""
    return QmpError(f"Parameter '{where}' is unexpected")


def wrong_type(where: str, expected: str) -> QmpError:
    """A value of another type than `expected`, a JSON type."""
    return QmpError(f"Invalid parameter type for '{where}', expected: {expected}")

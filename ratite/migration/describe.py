"""What devices save, for tools that compare versions: the JSON that QEMU's `-dump-vmstate` writes.

Source: QEMU's vmstate-static-checker.py reads it; names and nesting are what it expects.
"""

from __future__ import annotations

import json
from typing import Any

from ratite.devices import Device
from ratite.devices.register import Register
from ratite.qom import registry


def vmstate_json(machine: str) -> str:
    """The state of every type of device, as JSON text."""
    found: dict[str, Any] = {"vmschkmachine": {"Name": machine}}
    for cls in registry.all():
        if issubclass(cls, Device) and "type_name" in vars(cls):
            found[cls.type_name] = _describe(cls)
    return json.dumps(found, indent=2) + "\n"


def _describe(cls: type[Device]) -> dict[str, Any]:
    version = cls.state_version
    description: dict[str, Any] = {
        "name": cls.type_name,
        "version_id": version,
        "minimum_version_id": 1,
    }
    fields = [
        {
            "field": entry.name,
            "version_id": 0,
            "field_exists": not isinstance(entry, Register) and bool(entry.since),
            "size": entry.size if isinstance(entry, Register) else 8,
        }
        for entry in cls.saved_entries()
    ]
    if fields:
        description["Fields"] = fields
    return {
        "Name": cls.type_name,
        "version_id": version,
        "minimum_version_id": 1,
        "Description": description,
    }

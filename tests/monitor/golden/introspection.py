"""Write `introspection.json`: what QEMU says of the types and options that ratite has, too.

    python tests/monitor/golden/introspection.py [qemu-system-riscv64]

Texts for people are left out (of each only whether there is one), and inputs as objects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Answer = Callable[..., Any]


def properties(answer: Answer, command: str, type_name: str) -> dict[str, Any] | None:
    """The properties of a type by name: type, default, whether it is described. None: there are
    none to be asked for.
    """
    reply = answer({"execute": command, "arguments": {"typename": type_name}})
    if "error" in reply:
        return None
    found = {}
    for entry in reply["return"]:
        if "unnamed-gpio" not in entry["name"]:
            shown = [entry["type"], entry.get("default-value"), "description" in entry]
            found[entry["name"]] = shown
    return found


def introspect(answer: Answer, names: Iterable[str]) -> dict[str, Any]:
    """All that is compared."""
    types = {
        name: {
            "qom": properties(answer, "qom-list-properties", name),
            "device": properties(answer, "device-list-properties", name),
        }
        for name in names
    }
    options = {
        entry["option"]: {key["name"]: key["type"] for key in entry["parameters"]}
        for entry in answer({"execute": "query-command-line-options"})["return"]
    }
    known = {name: entry for name, entry in types.items() if entry["qom"] is not None}
    return {"types": known, "options": options}


def main() -> None:
    """Ask, and write the file."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from ratite.qom import registry
    from tests.monitor.golden.capture import MACHINE, Client

    program = sys.argv[1] if len(sys.argv) > 1 else "qemu-system-riscv64"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "qmp"
        with subprocess.Popen([program, *MACHINE, "-qmp", f"unix:{path},server=on,wait=off"]) as p:
            while not path.exists():
                time.sleep(0.05)
            client = Client(path)
            found = introspect(client.ask, [cls.type_name for cls in registry.all()])
            client.ask({"execute": "quit"})
            p.wait()
    target = Path(__file__).with_name("introspection.json")
    lines = json.dumps(found, indent=0, sort_keys=True).replace(",\n", ", ").replace("[\n", "[")
    target.write_text(lines.replace("\n]", "]").replace("}, ", "},\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

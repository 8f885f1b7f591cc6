"""Write `virt.json`: what QEMU answers to the same questions, for test_golden.py.

    python tests/monitor/golden/capture.py [qemu-system-riscv64]

Only answers are kept, of a paused machine that has run nothing.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MACHINE = "-M virt -m 256M -smp 2 -S -nodefaults -display none -bios none".split()

HMP = (
    "info mtree|info mtree -f|info qtree|info qom-tree|info ramblock|info registers -a|info roms|"
    "info mem|info status|info name|info uuid|info block|info numa|info history|info balloon|"
    "info memory_size_summary|info iothreads|info memory-devices|info block-jobs|info mice|"
    "info vnc|info kvm|info replay|info opcount|info irq|info pic|info nope|nope|cpu 3|x|"
    "help cpu|help nope|gva2gpa 0x1000|gpa2hva 0x10000000|gva2gpa|"
    "x /4xw 0x1000|xp /4xw 0x1000|xp /8xb 0x1000|xp /2xg 0x1000|xp /4uw 0x1000|xp /5cb 0x1000|"
    "xp /3ob 0x1000|xp /2s 0x1000|xp /1xw 0x90000000000|xp /20xb 0x8fffffff|xp /2xw|"
    "print /x 1+2|print /d 0xffffffffffffffff|print /o 8|print /c 65|print /u -1|print /x (1+2)*3|"
    "print /x 5/0|print /x ~0|print /x 6&3^8|print /x abc|print /x 5 5|print /x 1+|"
    "qom-list|qom-list /machine/unattached/device[1]|qom-get /machine type|qom-get /machine x|"
    "qom-get /machine/unattached/device[1] num-harts|info qom-tree /nope|"
    "qom-set /machine/unattached/device[1] num-harts 3|object_add nope,id=a|object_del nope|"
    "device_add nope|device_add virtio-rng-device|device_del nope|chardev-remove nope|"
    "ringbuf_read nope 3|getfd a|closefd a|nmi|system_wakeup|watchdog_action zz|quit 3|logfile|"
    "info registers 5|sum 0x1000 16|info snapshots|savevm x|loadvm x|loadvm|delvm x|info migrate|"
    "info migrate_capabilities|info migrate_parameters|migrate|migrate foo|migrate_pause|"
    "migrate_cancel|migrate_set_parameter foo 1|migrate_set_parameter compress-level 77|"
    "migrate_set_capability foo on|migrate_set_capability events maybe|migrate_incoming x|"
    "help sendkey|sendkey|sendkey a|sendkey ctrl-alt-delete|sendkey 0x1e 50|sendkey nope|"
    "sendkey ctrl-|sendkey <|sendkey a x|help balloon|balloon|balloon 5|info network|info usb|"
    "info hotpluggable-cpus|info qom-tree /machine/virt.flash0|help qom-set|info mem -z|"
    "xp /4ch 0x1000|xp /9cb 0x1000|xp /xb 0x1000|print 5|print /x 0|print /d -7/2|"
    "print 0x10000000000000000|memsave 0 4|pmemsave 0 4|chardev-add null"
).split("|")

QMP: tuple[dict[str, Any], ...] = tuple(
    {"execute": name, **({"arguments": arguments} if arguments is not None else {})}
    for name, arguments in (
        ("nope", None),
        ("stop", {"x": 1}),
        ("qom-get", {"path": "/machine"}),
        ("qom-get", {"path": 1, "property": "x"}),
        ("qom-get", {"path": "/machine", "property": "x"}),
        ("qom-get", {"path": "/nope", "property": "x"}),
        ("qom-set", {"path": "/machine", "property": "type", "value": 1}),
        ("qom-list", {"path": "/nope"}),
        ("qom-list", {"path": "device[1]"}),
        ("qom-get", {"path": "/machine/unattached/device[1]", "property": "parent_bus"}),
        ("device-list-properties", {"typename": "nope"}),
        ("device-list-properties", {"typename": "memory-region"}),
        ("qom-list-properties", {"typename": "nope"}),
        ("object-add", {"qom-type": "nope", "id": "a"}),
        ("object-add", {"qom-type": "rng-builtin"}),
        ("object-add", {"qom-type": "rng-builtin", "id": "r0"}),
        ("object-add", {"qom-type": "rng-builtin", "id": "r0"}),
        ("object-add", {"qom-type": "rng-random", "id": "r1", "foo": 1}),
        ("object-add", {"qom-type": "rng-random", "id": "1 2"}),
        ("object-del", {"id": "r0"}),
        ("object-del", {"id": "r0"}),
        ("device_add", {}),
        ("device_add", {"driver": "nope"}),
        ("device_add", {"driver": "virtio-rng-device"}),
        ("device_add", {"driver": "virtio-rng-device", "bus": "nope"}),
        ("device_add", {"driver": "serial-mm"}),
        ("device_del", {"id": "nope"}),
        ("device_del", {"id": "/machine/unattached/device[1]"}),
        ("query-hotpluggable-cpus", None),
        ("query-memory-devices", None),
        ("query-memory-size-summary", None),
        ("query-name", None),
        ("query-uuid", None),
        ("query-current-machine", None),
        ("query-iothreads", None),
        ("query-kvm", None),
        ("query-target", None),
        ("query-status", None),
        ("query-block", None),
        ("query-blockstats", None),
        ("query-named-block-nodes", None),
        ("query-block-jobs", None),
        ("query-jobs", None),
        ("query-migrate", None),
        ("query-rx-filter", None),
        ("query-vnc", None),
        ("query-stats-schemas", None),
        ("query-stats", {"target": "vm"}),
        ("query-sev-capabilities", None),
        ("query-fdsets", None),
        ("balloon", {"value": 1}),
        ("query-balloon", None),
        ("getfd", {"fdname": "a"}),
        ("closefd", {"fdname": "a"}),
        ("add-fd", None),
        ("remove-fd", {"fdset-id": 3}),
        ("chardev-add", {"id": "c0", "backend": {"type": "null", "data": {}}}),
        ("chardev-add", {"id": "c0", "backend": {"type": "null", "data": {}}}),
        ("chardev-add", {"id": "c1", "backend": {"type": "nope", "data": {}}}),
        ("chardev-add", {"id": "c1", "backend": {"type": "null"}}),
        ("chardev-remove", {"id": "c0"}),
        ("chardev-remove", {"id": "c0"}),
        ("chardev-add", {"id": "c2", "backend": {"type": "ringbuf", "data": {"size": 128}}}),
        ("ringbuf-write", {"device": "c2", "data": "hello"}),
        ("ringbuf-read", {"device": "c2", "size": 3}),
        ("ringbuf-read", {"device": "zz", "size": 3}),
        ("ringbuf-read", {"device": "c2", "size": 0}),
        ("inject-nmi", None),
        ("send-key", {"keys": [{"type": "qcode", "data": "a"}, {"type": "number", "data": 30}]}),
        ("send-key", {"keys": [{"type": "qcode", "data": "nope"}]}),
        ("memsave", {"val": -1, "size": 4, "filename": "/dev/null"}),
        ("memsave", {"val": 1.5, "size": 4, "filename": "/dev/null"}),
        ("pmemsave", {"val": 4096, "size": 1 << 64, "filename": "/dev/null"}),
        ("system_wakeup", None),
        ("memsave", {"val": 0, "size": 4, "filename": "/nope/x"}),
        ("memsave", {"val": 0, "size": 4, "filename": "/dev/null"}),
        ("memsave", {"val": 0, "size": 4, "filename": "/dev/null", "cpu-index": 7}),
        ("set-action", {"reboot": "zz"}),
        ("query-migrate-parameters", None),
        ("migrate", {"uri": "foo"}),
        ("migrate", {"uri": "fd:xx"}),
        ("migrate", {"uri": "tcp:1:1", "nope": 1}),
        ("migrate-incoming", {"uri": "foo"}),
        ("migrate-continue", {"state": "pre-switchover"}),
        ("migrate-pause", None),
        ("migrate-start-postcopy", None),
        ("migrate-recover", {"uri": "x"}),
        ("migrate-set-capabilities", {}),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "nosuch", "state": True}]}),
        ("migrate-set-parameters", {"downtime-limit": 2000001}),
        ("migrate-set-parameters", {"compress-threads": 256}),
        ("job-dismiss", {"id": "zz"}),
        ("snapshot-load", {"job-id": "1j", "tag": "t", "vmstate": "v", "devices": ["d"]}),
    )
)


class Client:
    """Asks a QMP server, one question at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self.greeting = json.loads(self._file.readline())
        self.ask({"execute": "qmp_capabilities"})

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer; events are left out."""
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        while True:
            reply: dict[str, Any] = json.loads(self._file.readline())
            if "event" not in reply:
                return reply


def resolved(schema: list[dict[str, Any]], names: set[str]) -> dict[str, Any]:
    """Of the schema, what its commands and events take and answer, without the type names."""
    by_name = {entry["name"]: entry for entry in schema}

    def members(name: str) -> Any:
        entry = by_name[name]
        if entry["meta-type"] == "array":
            return [members(entry["element-type"])]
        if entry["meta-type"] != "object":
            return entry.get("values") or entry.get("json-type") or entry["meta-type"]
        return {
            member["name"] + ("?" if "default" in member else ""): kind(member["type"])
            for member in entry["members"]
        }

    def kind(name: str) -> str:
        entry = by_name[name]
        return str(entry.get("json-type") or entry["meta-type"])

    return {
        name: {key: members(entry[key]) for key in ("arg-type", "ret-type") if key in entry}
        for name, entry in by_name.items()
        if entry["meta-type"] in ("command", "event") and name in names
    }


def main() -> None:
    """Ask, and write the file."""
    from ratite.monitor.command import load
    from ratite.monitor.event import EVENTS

    program = sys.argv[1] if len(sys.argv) > 1 else "qemu-system-riscv64"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "qmp"
        command = [program, *MACHINE, "-qmp", f"unix:{path},server=on,wait=off"]
        with subprocess.Popen(command) as process:
            while not path.exists():
                time.sleep(0.05)
            client = Client(path)
            hmp = {
                line: client.ask(
                    {"execute": "human-monitor-command", "arguments": {"command-line": line}}
                )["return"].replace("\r", "")
                for line in HMP
            }
            qmp = [[request, client.ask(request)] for request in QMP]
            schema = client.ask({"execute": "query-qmp-schema"})["return"]
            client.ask({"execute": "quit"})
            process.wait()
    load()
    names = {*load(), *EVENTS}
    found = {
        "version": client.greeting["QMP"]["version"],
        "machine": " ".join(MACHINE),
        "hmp": hmp,
        "qmp": qmp,
        "schema": resolved(schema, names),
    }
    target = Path(__file__).with_name("virt.json")
    target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

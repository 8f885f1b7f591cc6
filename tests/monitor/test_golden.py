"""The same questions as to QEMU 7.2, whose answers golden/capture.py has written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ratite.monitor.command import load
from ratite.monitor.event import EVENTS
from tests.monitor.conftest import MonitoredVm

GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).with_name("golden").joinpath("virt.json").read_text()
)

# What differs in `info`, and why. A line of QEMU's that contains one of these is not expected here.
ABSENT = {
    "gpex": "there is no PCI host bridge yet",
    "pcie": "likewise",
    "bus master": "likewise",
    "platform bus": "there is no platform bus",
    "unnamed-gpio-in": "inputs are callables, not objects of the tree",
    "/serial (serial)": "the UART is one object, not two",
    "memory-region: system": "printed by QEMU because of the PCI bridge's aliases",
}
H_EXTENSION = "V hstatus vsstatus hideleg hedeleg vstvec vsepc vscause htval mtval2".split()

EXPLAINED_HMP = {
    "info mtree": "the PCI bridge and the platform bus",
    "info mtree -f": "the PCI bridge",
    "info qtree": "the PCI bridge and the platform bus; addresses of devices that QEMU maps "
    "without telling its bus; two more properties of the UART; ioeventfd as it was asked for",
    "info qom-tree": "the PCI bridge, the platform bus, inputs as objects; "
    "RAM is a child of the board",
    "info registers -a": "the hypervisor extension",
    "info roms": "the device tree's size: QEMU reserves 1 MiB",
    "xp /4dh 0x1000": "QEMU does not sign-extend",
    "qom-list /machine/unattached/device[1]": "order, and outputs as links",
    "gpa2hva 0x1000": "addresses of the host",
}


def lines_of(text: str) -> list[str]:
    return [line for line in text.split("\n") if not any(word in line for word in ABSENT)]


EXACT = sorted(set(GOLDEN["hmp"]) - set(EXPLAINED_HMP))


@pytest.fixture(scope="module")
def answers(shared_vm: MonitoredVm) -> tuple[dict[str, str], list[Any]]:
    """The answers to all lines, then to all requests: some depend on what was asked before,
    whichever tests a process runs.
    """
    client = shared_vm.client()
    lines = {line: client.hmp(line) for line in EXACT}
    found = [client.ask(request) for request, _ in GOLDEN["qmp"]]
    client.command("chardev-remove", id="c2")
    shared_vm.close_clients()
    return lines, found


@pytest.mark.parametrize("line", EXACT)
def test_hmp_answers_like_qemu(answers: tuple[dict[str, str], list[Any]], line: str) -> None:
    assert answers[0][line] == GOLDEN["hmp"][line]


def test_the_memory_tree_is_qemus_but_for_what_is_explained(qmp: Any) -> None:
    wanted = _sections(GOLDEN["hmp"]["info mtree"].partition("memory-region: pcie")[0])
    assert _sections(qmp.hmp("info mtree")) == {k: v for k, v in wanted.items() if v}


def test_the_flat_view_is_qemus_but_for_what_is_explained(qmp: Any) -> None:
    wanted = _sections(GOLDEN["hmp"]["info mtree -f"])
    assert _sections(qmp.hmp("info mtree -f")) == {k: v for k, v in wanted.items() if v}


def _sections(text: str) -> dict[str, list[str]]:
    """The trees or views by the spaces that they belong to: QEMU lists them in no fixed order."""
    found = {}
    for section in text.split("\n\n"):
        lines = section.split("\n")
        heads = [line for line in lines if line.startswith(("address-space:", " AS "))]
        body = [line for line in lines if line.startswith("  ") and lines_of(line)]
        found["; ".join(sorted(heads))] = [line for line in body if "No rendered" not in line]
    return {heads: body for heads, body in found.items() if heads}


def test_the_composition_tree_has_every_object_of_qemus_but_those_explained(qmp: Any) -> None:
    ours = _paths(qmp.hmp("info qom-tree"))
    wanted = _paths(GOLDEN["hmp"]["info qom-tree"])
    gone = {path for path in wanted if _is_absent(path)}
    renumbered = {_renumbered(path): kind for path, kind in wanted.items() if path not in gone}
    assert set(renumbered.items()) - set(ours.items()) == set()
    assert set(ours) - set(renumbered) == {"/machine/unattached/riscv_virt_board.ram[0]"}


def _paths(tree: str) -> dict[str, str]:
    """Path to type, from the indented text."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in filter(None, tree.split("\n")):
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, kind = line.strip().rpartition(" (")
        above[depth:] = [name]
        found["".join(above)] = kind.rstrip(")")
    return found


def _is_absent(path: str) -> bool:
    devices = ("/machine/unattached/device[12]", "/machine/unattached/device[13]")
    return path.startswith(devices) or "unnamed-gpio" in path or path.endswith("/serial")


def _renumbered(path: str) -> str:
    """QEMU's paths without its two devices that are not here."""
    for theirs, ours in ((14, 12), (15, 13)):
        path = path.replace(f"device[{theirs}]", f"device[{ours}]")
    return path


def test_the_device_tree_is_qemus_but_for_what_is_explained(qmp: Any) -> None:
    ours = _devices(qmp.hmp("info qtree"))
    wanted = _devices(GOLDEN["hmp"]["info qtree"])
    left_out = ("platform-bus-device", "gpex-pcihost", "gpex-root")
    wanted = [entry for entry in wanted if entry[0] not in left_out]
    assert [name for name, _ in ours] == [name for name, _ in wanted]
    for (name, our_lines), (_, their_lines) in zip(ours, wanted, strict=True):
        missing = [line for line in their_lines if line not in our_lines]
        explained = ("mmio ffffffffffffffff", "ioeventfd = false")
        assert [line for line in missing if not line.startswith(explained)] == [], name


def _devices(text: str) -> list[tuple[str, list[str]]]:
    """Each device with its lines, in order."""
    found: list[tuple[str, list[str]]] = []
    for line in map(str.strip, text.split("\n")):
        if line.startswith("dev: "):
            found.append((line.removeprefix("dev: ").partition(",")[0], []))
        elif found and line:
            found[-1][1].append(line)
    return found


def test_registers_are_shown_like_qemus_but_for_the_hypervisor_extension(qmp: Any) -> None:
    wanted = [
        line
        for line in GOLDEN["hmp"]["info registers -a"].split("\n")
        if line.split()[:1] not in [[name] for name in H_EXTENSION] and "mideleg" not in line
    ]
    ours = [line for line in qmp.hmp("info registers -a").split("\n") if "mideleg" not in line]
    assert ours == wanted


def test_roms_are_those_of_qemu(qmp: Any) -> None:
    ours = [line.split() for line in qmp.hmp("info roms").splitlines()]
    wanted = [line.split() for line in GOLDEN["hmp"]["info roms"].splitlines()]
    assert [(a, m, n) for a, _, m, n in ours] == [(a, m, n) for a, _, m, n in wanted]
    assert ours[:2] == wanted[:2]


def test_qmp_answers_like_qemu(answers: tuple[dict[str, str], list[Any]]) -> None:
    differing = []
    for (request, wanted), answer in zip(GOLDEN["qmp"], answers[1], strict=True):
        if request["execute"] == "qom-list" and "return" in wanted:
            ours, theirs = _names(answer), _names(wanted)
            assert ours == theirs - {"unnamed-gpio-out[0]", "unnamed-gpio-out[1]"}
            continue
        if answer != wanted:
            differing.append((request, answer, wanted))
    assert differing == []


def _names(answer: Any) -> set[str]:
    return {entry["name"] for entry in answer["return"]}


# -- the schema


def our_schema(qmp: Any) -> dict[str, Any]:
    import importlib.util

    path = Path(__file__).with_name("golden") / "capture.py"
    spec = importlib.util.spec_from_file_location("capture", path)
    assert spec is not None and spec.loader is not None
    capture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(capture)
    found: dict[str, Any] = capture.resolved(qmp.result("query-qmp-schema"), {*load(), *EVENTS})
    return found


def test_every_argument_and_result_exists_in_qemus_schema_with_its_type(qmp: Any) -> None:
    ours = our_schema(qmp)
    wrong = []
    for name, wanted in GOLDEN["schema"].items():
        for key in ("arg-type", "ret-type"):
            if key in wanted:
                wrong += [
                    f"{name} {key}: {text}" for text in _misfits(ours[name][key], wanted[key])
                ]
    # A string or null for QEMU, where null means the empty string; TLS is not supported anyway.
    assert [text for text in wrong if "member tls-" not in text] == []


def _misfits(ours: Any, theirs: Any) -> list[str]:
    """What a client that knows QEMU's schema would stumble over."""
    if isinstance(ours, list) and isinstance(theirs, list):
        if "value" in ours:
            return []  # a list that is always empty here says nothing of its elements
        return _misfits(ours[0], theirs[0]) if len(ours) == len(theirs) == 1 else []
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return [] if ours == theirs or "value" in (ours, theirs) else [f"{ours} {theirs}"]
    plain = {name.rstrip("?"): kind for name, kind in theirs.items()}
    found = []
    for name, kind in ours.items():
        expected = plain.get(name.rstrip("?"))
        same = kind == expected or {kind, expected} <= {"enum", "string"}
        if expected is None or not (same or "value" in (kind, expected)):
            found.append(f"member {name}: {kind}, not {expected}")
    required = {name for name in theirs if not name.endswith("?")}
    missing = required - {name.rstrip("?") for name in ours}
    return found + [f"no member {name}" for name in sorted(missing)]

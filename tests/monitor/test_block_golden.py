"""The same commands about drives and nodes as to QEMU 7.2, whose answers transcripts keep."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.monitor.conftest import MakeVm, QmpClient
from tests.monitor.golden.transcript import MACHINE, Scene, make_files

FOLDER = Path(__file__).with_name("golden") / "block"

EXPLAINED = {
    "hmp drive_add -n 0 driver=file,node-name=fx": "another text for a missing file name",
}
"""Commands whose answers differ, and why."""


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_drives_and_nodes_answer_like_qemus(
    make_vm: MakeVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    scene = Scene.read(FOLDER / f"{name}.txt")
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    qmp = make_vm(scene.options, MACHINE).client()
    ours = scene.answered(qmp.ask)
    differing = [
        f"> {command}\n{answer}instead of\n{wanted}"
        for (command, answer), (_, wanted) in zip(ours.steps, scene.steps, strict=True)
        if answer != wanted and command not in EXPLAINED
    ]
    assert not differing, "\n".join(differing)


# -- the schema of BlockdevOptions


def options_of(schema: list[dict[str, Any]], drivers: Collection[str]) -> dict[str, Any]:
    """What `blockdev-add` takes for these drivers, without the type names."""
    by_name = {entry["name"]: entry for entry in schema}
    command = by_name["blockdev-add"]
    top = by_name[command["arg-type"]]

    def shown(name: str) -> Any:
        entry = by_name[name]
        match entry["meta-type"]:
            case "builtin":
                return entry["json-type"]
            case "enum":
                return [member["name"] for member in entry["members"]]
            case "alternate":
                choices = [member["type"] for member in entry["members"]]
                return sorted(
                    "BlockdevOptions" if by_name[choice] is top else str(shown(choice))
                    for choice in choices
                )
        return members(entry)

    def members(entry: dict[str, Any]) -> dict[str, Any]:
        found = {
            member["name"] + ("?" if "default" in member else ""): shown(member["type"])
            for member in entry["members"]
        }
        return found | {f"${word}": True for word in entry.get("features", ())}

    return {
        "members": {k: v for k, v in members(top).items() if k != "driver"},
        "tag": top["tag"],
        "variants": {
            variant["case"]: members(by_name[variant["type"]])
            for variant in top["variants"]
            if variant["case"] in drivers
        },
    }


def test_nodes_take_the_options_of_qemus(qmp: QmpClient) -> None:
    theirs = json.loads((FOLDER / "options.json").read_text())
    schema = qmp.result("query-qmp-schema")
    ours = options_of(schema, theirs["variants"])
    assert {**ours, "variants": None} == {**theirs, "variants": None}
    assert ours["variants"].keys() == theirs["variants"].keys()
    for driver, options in ours["variants"].items():
        assert options.items() <= theirs["variants"][driver].items(), driver
    assert set(theirs["variants"]["file"]) - set(ours["variants"]["file"]) == {
        "pr-manager?",  # SCSI reservations
        "drop-cache?",  # for migration
        "x-check-cache-dropped?",
    }

"""The graph of drives and nodes, as QEMU has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import MakeVm, QmpClient


def shape(graph: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Without numbers, and without the names that nobody has given."""
    names = {
        node["id"]: "(file)" if node["name"].startswith("#block") else node["name"]
        for node in graph["nodes"]
    }
    nodes = sorted((names[node["id"]], node["type"]) for node in graph["nodes"])
    edges = sorted(
        (names[e["parent"]], names[e["child"]], e["name"], e["perm"], e["shared-perm"])
        for e in graph["edges"]
    )
    return nodes, edges


def test_it_is_qemus(make_vm: MakeVm, make_qemu: Callable[..., QmpClient], tmp_path: Path) -> None:
    shapes = []
    for make in (lambda more: make_vm(more).client(), make_qemu):
        images = [tmp_path / f"{len(shapes)}{n}" for n in range(2)]
        for image in images:
            image.write_bytes(bytes(1 << 20))
        client = make(
            f"-drive if=none,id=d,file={images[0]},format=raw,node-name=top "
            "-device virtio-blk-device,drive=d,id=b "
            f"-blockdev driver=file,filename={images[1]},node-name=f2 "
            "-blockdev driver=raw,file=f2,node-name=r2,read-only=on "
            "-device virtio-blk-device,drive=r2,id=second -drive if=none,id=empty "
            "-blockdev driver=null-co,node-name=alone"
        )
        shapes.append(shape(client.result("x-debug-query-block-graph")))
    assert shapes[0] == shapes[1]
    assert len(shapes[0][1]) == 4


def test_a_machine_without_disks_has_an_empty_graph(qmp: QmpClient) -> None:
    assert qmp.result("x-debug-query-block-graph") == {"nodes": [], "edges": []}

"""The graph of drives and block nodes, and transactions on it.

Source: QEMU's QMP reference, `x-debug-query-block-graph`, `transaction`. Not modelled: actions of a
transaction that have no command here (snapshots of nodes, bitmaps, backups).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from ratite.block import BlockNode, Drive
from ratite.block.permission import Permission
from ratite.monitor.command import command
from ratite.monitor.errors import QmpError
from ratite.monitor.vm import Vm
from ratite.qom import Doc, Tagged


class BlockGraphNodeType(Enum):
    """What a node of the graph is."""

    BLOCK_BACKEND = "block-backend"
    BLOCK_JOB = "block-job"
    BLOCK_DRIVER = "block-driver"


@dataclass(frozen=True)
class BlockGraphNode:
    """A drive (`block-backend`), or a block node (`block-driver`)."""

    id: int
    type: BlockGraphNodeType
    name: str


class BlockPermission(Enum):
    """A use of a node."""

    CONSISTENT_READ = "consistent-read"
    WRITE = "write"
    WRITE_UNCHANGED = "write-unchanged"
    RESIZE = "resize"


@dataclass(frozen=True)
class BlockGraphEdge:
    """One use of a node by a drive or another node."""

    parent: int
    child: int
    name: Annotated[str, Doc("what it is used as")]
    perm: Annotated[list[BlockPermission], Doc("what the user does")]
    shared_perm: Annotated[list[BlockPermission], Doc("what others may do meanwhile")]


@dataclass(frozen=True)
class BlockGraph:
    """Answer to `x-debug-query-block-graph`."""

    nodes: list[BlockGraphNode]
    edges: list[BlockGraphEdge]


def _permissions(given: Permission) -> list[BlockPermission]:
    """As words, the strongest first."""
    return [BlockPermission[str(bit.name)] for bit in given][::-1]


def _name(user: Drive | BlockNode) -> str:
    if isinstance(user, Drive) and not user.name and user.user is not None:
        return user.user.id or user.user.path
    return user.name


@command("x-debug-query-block-graph", features=("unstable",), preconfig=True)
def query_block_graph(vm: Vm) -> BlockGraph:
    """Drives, block nodes, and who uses which for what. Numbers are of this answer only."""
    layer = vm.backends.block
    users: list[Drive | BlockNode] = [*layer.drives, *layer.graph.nodes.values()]
    ids = {id(user): number for number, user in enumerate(users, 1)}
    nodes = [
        BlockGraphNode(
            ids[id(user)],
            BlockGraphNodeType.BLOCK_BACKEND
            if isinstance(user, Drive)
            else BlockGraphNodeType.BLOCK_DRIVER,
            _name(user),
        )
        for user in users
    ]
    edges = [
        BlockGraphEdge(
            ids[id(link.user)],
            ids[id(node)],
            link.role,
            _permissions(link.uses),
            _permissions(link.shares),
        )
        for node in layer.graph.nodes.values()
        for link in node.users
        if id(link.user) in ids
    ]
    return BlockGraph(nodes, edges)


@dataclass(frozen=True)
class Abort:
    """What fails, for tests: its data is an empty object."""

    case: ClassVar[str] = "abort"


TransactionAction = Annotated[Abort, Tagged("type", "TransactionAction", nested="data")]


class ActionCompletionMode(Enum):
    """Whether actions that go on after the answer fail together."""

    INDIVIDUAL = "individual"
    GROUPED = "grouped"


@dataclass(frozen=True)
class TransactionProperties:
    """How a transaction is done."""

    completion_mode: ActionCompletionMode = ActionCompletionMode.INDIVIDUAL


@command("transaction")
def transaction(
    actions: list[TransactionAction], properties: TransactionProperties | None = None
) -> None:
    """Do several things, all or none. The one action that there is makes a transaction fail, so
    that nothing is done."""
    if actions:
        raise QmpError("Transaction aborted using Abort action")

"""What users of a block node do with it, and what they let others do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Protocol

from ratite.core.errors import ConfigError

if TYPE_CHECKING:
    from ratite.block.node import BlockNode


class Permission(IntFlag):
    """A set of uses. A bit's number is that of its byte among the locks of an image."""

    NONE = 0
    CONSISTENT_READ = 1
    WRITE = 2
    WRITE_UNCHANGED = 4
    RESIZE = 8
    ALL = 15

    @property
    def words(self) -> str:
        """As error texts name them."""
        return ", ".join(str(bit.name).lower().replace("_", " ") for bit in self)


class User(Protocol):
    """Who uses a node: a drive, or the node above."""

    def describe(self) -> str:
        """Who that is, for people."""

    def resized(self) -> None:
        """The node has another size now."""


@dataclass(eq=False, slots=True)
class Link:
    """One use of a node."""

    user: User
    role: str
    node: BlockNode
    uses: Permission = Permission.NONE
    shares: Permission = Permission.ALL

    def describe(self) -> str:
        """Who uses the node as what."""
        return f"{self.user.describe()} (uses node '{self.node.name}' as '{self.role}' child)"

    def set(self, uses: Permission, shares: Permission) -> None:
        """Change what this use needs and shares. Raises `ConfigError` or `HostError`, with nothing
        changed, if that goes against other users, the node, or another process.
        """
        before = self.uses, self.shares
        self.uses, self.shares = uses, shares
        try:
            self.node.refresh()
        except BaseException:
            self.uses, self.shares = before
            self.node.refresh()
            raise

    def remove(self) -> None:
        """End the use."""
        self.node.users.remove(self)
        self.node.refresh()


def check_conflicts(users: list[Link]) -> None:
    """Raise `ConfigError` if one user needs what another does not share."""
    for strict in users:
        for other in users:
            clash = other.uses & ~strict.shares
            if other is not strict and clash:
                raise ConfigError(
                    f"Permission conflict on node '{strict.node.name}': permissions "
                    f"'{Permission(clash).words}' are both required by {other.describe()} and "
                    f"unshared by {strict.describe()}."
                )

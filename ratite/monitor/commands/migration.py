"""What management tools ask about migration before they use it.

Source: QEMU's QMP reference, "Migration". Not modelled: migration; nothing can be switched on.
"""

from __future__ import annotations

from dataclasses import dataclass

from ratite.monitor.command import command


@dataclass(frozen=True)
class MigrationInfo:
    """Answer to `query-migrate`."""

    status: str | None = None


@command("query-migrate")
def query_migrate() -> MigrationInfo:
    """How the migration goes: there is none."""
    return MigrationInfo()


@dataclass(frozen=True)
class MigrationCapabilityStatus:
    """Something that can be switched on or off for migrations."""

    capability: str
    state: bool


@command("query-migrate-capabilities")
def query_migrate_capabilities() -> list[MigrationCapabilityStatus]:
    """What can be switched on for migrations: nothing."""
    return []

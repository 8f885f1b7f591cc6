"""The version that clients are told.

The `qemu` numbers say which QEMU's protocol this is; management tools refuse what is too old for
them, and switch on what they have seen that version do. 7.2 is the version whose answers ratite is
compared with. `package` says what it really is.
"""

from __future__ import annotations

from ratite.version import VERSION

COMPATIBLE = (7, 2, 0)
PACKAGE = f"ratite {VERSION}"


def version_info() -> dict[str, object]:
    """What the greeting and `query-version` say."""
    major, minor, micro = COMPATIBLE
    return {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": PACKAGE}


def version_text() -> str:
    """The same in a line."""
    return f"{'.'.join(map(str, COMPATIBLE))} ({PACKAGE})"

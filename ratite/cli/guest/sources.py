"""Where this host's apt finds Debian: one entry of its sources, both file forms.

Source: sources.list(5), one-line style and deb822 style.

The mirror is never ours to choose: it is read from the configuration of the machine's owner.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

KEYRINGS = tuple(
    Path("/usr/share/keyrings") / name
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
)

SUITES = frozenset(
    "stable oldstable testing unstable sid bullseye bookworm trixie forky duke".split()
)

# Options that say how to check an archive; the others choose indexes, which we do ourselves.
# `Trusted` is left out on purpose: it would switch the signature check off.
_KEPT_OPTIONS = frozenset(
    {"signed-by", "check-valid-until", "valid-until-max", "check-date", "date-max-future"}
)


@dataclass(frozen=True, slots=True)
class Source:
    """One archive that apt is configured with."""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_debian(self) -> bool:
        """Whether this is the main Debian archive (not security, not another vendor)."""
        return (
            "deb" in self.types
            and "main" in self.components
            and any(suite in SUITES for suite in self.suites)
        )

    def deb822(self, *, suite: str, arch: str, keyring: str | None) -> str:
        """The stanza for another suite and architecture of the same archive.

        `keyring` verifies the archive where the entry names no key of its own.
        """
        options = {name: text for name, text in self.options.items() if name in _KEPT_OPTIONS}
        if "signed-by" not in options and keyring is not None:
            options["signed-by"] = keyring
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {suite}",
            "Components: main",
            f"Architectures: {arch}",
        ]
        lines += [f"{name.title()}: {text}" for name, text in sorted(options.items())]
        return "\n".join(lines) + "\n"


def parse_list(text: str) -> Iterator[Source]:
    """Yield the entries of a one-line-style file (`*.list`); lines it cannot read are skipped."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 3 or words[0] not in ("deb", "deb-src"):
            continue
        options: dict[str, str] = {}
        rest = words[1:]
        if rest[0].startswith("["):
            end = next((i for i, word in enumerate(rest) if word.endswith("]")), None)
            if end is None:
                continue
            inside = " ".join(rest[: end + 1]).strip("[] ")
            for option in shlex.split(inside):
                name, _, value = option.partition("=")
                options[name.rstrip("+-").lower()] = value.replace(",", " ")
            rest = rest[end + 1 :]
        if len(rest) >= 2:
            yield Source((words[0],), (rest[0],), (rest[1],), tuple(rest[2:]), options)


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the enabled stanzas of a deb822-style file (`*.sources`)."""
    for fields in _stanzas(text):
        if fields.get("enabled", "yes").strip().lower() in ("no", "false", "off", "0"):
            continue

        def words(name: str, fields: dict[str, str] = fields) -> tuple[str, ...]:
            return tuple(fields.get(name, "").split())

        known = {"types", "uris", "suites", "components", "enabled"}
        options = {name: value for name, value in fields.items() if name not in known}
        yield Source(words("types"), words("uris"), words("suites"), words("components"), options)


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield each paragraph's fields, names in lower case, continuation lines kept as they stand."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def read_sources(paths: Iterable[Path]) -> list[Source]:
    """Every entry of these files and directories (`*.list`, `*.sources`), if they are there."""
    found: list[Source] = []
    for path in paths:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            if file.suffix not in (".list", ".sources") or not file.is_file():
                continue
            parse = parse_list if file.suffix == ".list" else parse_deb822
            found += parse(file.read_text(encoding="utf-8", errors="replace"))
    return found

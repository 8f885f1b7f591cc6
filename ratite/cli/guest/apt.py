"""Apt's own client on a state directory of ours: without root, the host's packages untouched.

Source: apt.conf(5), apt-get(8), apt-secure(8); APT's README.progress-reporting.

The host's proxies, credentials and download methods apply; its hooks, pins and extra indexes not.
Apt verifies the archive's signature, and by it the checksum of every package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ratite.cli.guest.sources import KEYRINGS, Source, read_sources
from ratite.core import ConfigError

_CONFIG = """\
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Log "{root}/log";
Dir::Etc::sourcelist "{root}/debian.sources";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Default-Release "";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
"""

_NOT_CARRIED = r"does not have a Release file|404 +Not Found|No packages found|Unable to locate"

# What apt says, and what that means to the user; the first that matches.
_DIAGNOSES = (
    (r"No space left|enough free space", "no space left for the guest's packages"),
    (
        r"Hash Sum mismatch|unexpected size|Hashes of (expected|received)",
        "a download does not match its checksum; try again, the mirror may be changing",
    ),
    (
        r"NO_PUBKEY|is not signed|couldn't be verified|BADSIG|EXPKEYSIG|signed-by|not have a key",
        "the archive's signature cannot be checked; apt install debian-archive-keyring",
    ),
    (
        r"resolv|[Cc]ould not connect|[Uu]nable to connect|timed out|unreachable|Connection failed"
        r"|[Cc]onnection (refused|reset)|Failed to fetch",
        "cannot reach the mirror that apt is configured with; check the network and apt's proxy",
    ),
)


class NotCarriedError(ConfigError):
    """The mirror answers, and does not have this suite, architecture or package."""


@dataclass(frozen=True, slots=True)
class Apt:
    """A private apt for one suite of the Debian archive and one architecture."""

    root: Path
    config: Path

    def update(self, percent: Callable[[float], None]) -> None:
        """Fetch the package index. Raises ConfigError in the user's words if that fails."""
        self._fetch(["update"], cwd=self.root, percent=percent)

    def fields(self, package: str) -> dict[str, str]:
        """The control fields of the newest version of a package."""
        text = self._run("apt-cache", ["show", "--no-all-versions", package])
        pairs = (line.partition(":") for line in text.splitlines() if line[:1] not in ("", " "))
        return {name: value.strip() for name, _, value in pairs}

    def download(
        self, packages: Sequence[str], into: Path, percent: Callable[[float], None]
    ) -> dict[str, Path]:
        """Fetch packages, verified, into a directory; their files by package name."""
        self._fetch(["download", *packages], cwd=into, percent=percent)
        found = {path.name.partition("_")[0]: path for path in into.glob("*.deb")}
        missing = [package for package in packages if package not in found]
        if missing:
            raise ConfigError(f"apt did not deliver {' '.join(missing)}")
        return found

    def _fetch(self, arguments: list[str], *, cwd: Path, percent: Callable[[float], None]) -> None:
        read_end, write_end = os.pipe()
        command = ["apt-get", "-c", str(self.config), "-q", "-o", f"APT::Status-Fd={write_end}"]
        with (
            tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as errors,
            os.fdopen(read_end, encoding="utf-8", errors="replace") as status,
        ):
            try:
                process = subprocess.Popen(
                    [*command, *arguments],
                    cwd=cwd,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(write_end,),
                )
            finally:
                os.close(write_end)
            with process:
                _follow(status, percent)
            errors.seek(0)
            said = errors.read()
        if process.returncode:
            raise _diagnose(said)

    def _run(self, program: str, arguments: list[str]) -> str:
        result = subprocess.run(
            [program, "-c", str(self.config), *arguments],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise _diagnose(result.stderr)
        return result.stdout


def private_apt(root: Path, *, suite: str, arch: str) -> Apt:
    """Prepare an apt whose whole state lies below `root`.

    Raises ConfigError if apt is missing or knows no Debian archive.
    """
    if shutil.which("apt-get") is None:
        raise ConfigError("fetching the guest's packages needs apt, and this host has none")
    if any(character in str(root) for character in '"\n'):
        raise ConfigError(f"apt cannot work in a directory of this name: {root}")
    source = _debian_source()
    keyring = next((str(path) for path in KEYRINGS if path.exists()), None)
    for directory in ("state/lists/partial", "cache/archives/partial", "log"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    stanza = source.deb822(suite=suite, arch=arch, keyring=keyring)
    # only the package index: not what desktop software centres add to apt's targets
    (root / "debian.sources").write_text(stanza + "Targets: Packages\n", encoding="utf-8")
    config = root / "apt.conf"
    config.write_text(_CONFIG.format(root=root, arch=arch), encoding="utf-8")
    return Apt(root, config)


def _debian_source() -> Source:
    keys = {"LIST": "Dir::Etc::sourcelist/f", "PARTS": "Dir::Etc::sourceparts/d"}
    result = subprocess.run(
        ["apt-config", "shell", *(word for pair in keys.items() for word in pair)],
        capture_output=True,
        text=True,
        check=False,
    )
    paths = [Path(match) for match in re.findall(r"='(.*)'", result.stdout)]
    for source in read_sources(paths):
        if source.is_debian:
            return source
    raise ConfigError("apt is not configured with a Debian archive; add one to its sources")


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _follow(status: IO[str], percent: Callable[[float], None]) -> None:
    """Report each `dlstatus:ITEM:PERCENT:TEXT` line until apt closes its end."""
    for line in status:
        parts = line.split(":")
        if parts[0] == "dlstatus" and len(parts) >= 3:
            try:
                percent(float(parts[2]))
            except ValueError:
                continue


def _diagnose(errors: str) -> ConfigError:
    said = [line[2:].strip() for line in errors.splitlines() if line.startswith(("E:", "W:"))]
    detail = said[0] if said else "no reason given"
    if re.search(_NOT_CARRIED, errors):
        return NotCarriedError(f"the mirror that apt is configured with lacks it (apt: {detail})")
    for pattern, meaning in _DIAGNOSES:
        if re.search(pattern, errors):
            return ConfigError(f"{meaning} (apt: {detail})")
    return ConfigError(f"apt: {detail}")

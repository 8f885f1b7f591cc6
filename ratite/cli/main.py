"""`ratite`: the friendly front door."""

from __future__ import annotations

import os.path
import sys

from ratite.cli.process import CtrlCRaises, Messages, begin, show
from ratite.cli.system import launch, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratite.cli.guest import GuestFiles

# All else is imported once `begin` has seen to Ctrl-C.

PROGRAM = "ratite"

DEMO = os.path.join(os.path.dirname(__file__), "demo", "demo.bin")
"""The small guest that ships with ratite."""

_USAGE = """\
usage: ratite [run] [--debian] [OPTION]...
       ratite fetch
       ratite cache {info,clear}

  run            boot the small guest that ships with ratite, or what -kernel names
  run --debian   boot Debian's kernel to a shell; fetches it on first use
  fetch          fetch the Debian guest now, and print where its files are
  cache          show, or remove, the generated code that is kept between runs

OPTION is any option of ratite-system-riscv64 (see ratite-system-riscv64 -h), such as
-smp 4, -m 1G or -drive file=disk.img,format=raw,if=virtio.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the result is its exit status. Without `arguments` it has the process for
    itself, and its command line.
    """
    if arguments is None:
        begin()
        arguments = sys.argv[1:]
    from ratite.core import ConfigError, HostError

    try:
        return _main(list(arguments))
    except (ConfigError, HostError) as error:
        return report(Messages(PROGRAM), error)
    except KeyboardInterrupt:
        return 130


def _main(words: list[str]) -> int:
    from ratite.cli.usage import version_line
    from ratite.core import ConfigError

    first = words[0] if words else "run"
    if first in ("-h", "-help", "--help", "help"):
        show(_USAGE)
        return 0
    if first in ("-version", "--version"):
        show(version_line(PROGRAM))
        return 0
    if first.startswith("-"):
        words.insert(0, "run")
        first = "run"
    command = _COMMANDS.get(first)
    if command is None:
        raise ConfigError(f"no command '{first}'; there are: {', '.join(_COMMANDS)}")
    return command(words[1:])


def _run(words: list[str]) -> int:
    debian = words[:1] == ["--debian"]
    options = words[1:] if debian else words
    given = {word.lstrip("-") for word in options if word.startswith("-")}
    if given & {"h", "help", "version"}:
        return launch(PROGRAM, options)
    defaults = _debian_files() if debian else {"kernel": DEMO}
    return launch(PROGRAM, [*_board(given), *_unless_given(defaults, given), *options])


def _fetch(words: list[str]) -> int:
    from ratite.core import ConfigError

    if words:
        raise ConfigError(f"fetch: takes no arguments, not '{words[0]}'")
    files = _fetch_guest()
    show("".join(f"{path}\n" for path in (files.kernel, files.initrd, files.opensbi)))
    return 0


def _fetch_guest() -> GuestFiles:
    with CtrlCRaises():
        from ratite.cli.guest import fetch_guest
        from ratite.cli.progress import TerminalProgress

        with TerminalProgress() as progress:
            return fetch_guest(progress)


def _cache(words: list[str]) -> int:
    from ratite.core import ConfigError, HostError
    from ratite.native.cache import ObjectCache

    cache = ObjectCache()
    if words not in (["info"], ["clear"]):
        raise ConfigError(f"cache: wants 'info' or 'clear', not '{' '.join(words)}'")
    if words == ["info"]:
        entries, done = cache.entries(), f"of {cache.limit >> 20} MiB, in"
    else:
        try:
            entries, done = cache.clear(), "removed from"
        except OSError as error:
            raise HostError.from_os("remove the generated code", error, error.filename) from error
    size = sum(entry.size for entry in entries) / (1 << 20)
    show(f"{len(entries)} objects, {size:.1f} MiB {done} {cache.directory}\n")
    return 0


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "fetch": _fetch,
    "cache": _cache,
}


def _debian_files() -> dict[str, str]:
    files = _fetch_guest()
    return {
        "kernel": str(files.kernel),
        "initrd": str(files.initrd),
        "bios": str(files.opensbi),
        "append": "console=ttyS0",
    }


def _board(given: set[str]) -> list[str]:
    board = [] if given & {"M", "machine"} else ["-M", "virt"]
    return [*board, *([] if "m" in given else ["-m", "512M"])]


def _unless_given(defaults: dict[str, str], given: set[str]) -> list[str]:
    return [
        word
        for name, value in defaults.items()
        if name not in given
        for word in (f"-{name}", value)
    ]

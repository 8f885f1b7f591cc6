"""`ratite-system-riscv64`: QEMU's command line."""

from __future__ import annotations

import gc
import sys

from ratite.cli import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# All else is imported once `process.begin` has seen to Ctrl-C.

PROGRAM = "ratite-system-riscv64"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the result is its exit status. Without `arguments` it has the process for
    itself, and its command line.
    """
    if arguments is None:
        process.begin()
        gc.disable()  # until the machine runs, there is nothing to collect
        arguments = sys.argv[1:]
    return launch(PROGRAM, arguments)


def launch(program: str, arguments: Sequence[str]) -> int:
    """Run the machine that the options describe, or answer what they ask.

    A wrong option, or a host that refuses, is one line on standard error and exit status 1.
    """
    from ratite.cli.draft import Draft, Wanted
    from ratite.cli.messages import messages_of
    from ratite.cli.options import parse
    from ratite.cli.usage import answer
    from ratite.core import ConfigError, HostError

    draft = Draft()
    try:
        try:
            config = parse(arguments, draft)
        except Wanted as wanted:
            process.show(answer(wanted, program))
            return 0
        from ratite.cli.run import run_machine

        return run_machine(config, program)
    except (ConfigError, HostError) as error:
        return report(messages_of(draft.config, program), error)
    except KeyboardInterrupt:
        return 130


def report(messages: process.Messages, error: Exception) -> int:
    """Print an error in one line; the result is the exit status."""
    messages.tell(str(error))
    return 1

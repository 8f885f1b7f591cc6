"""Help, and the machine as a whole."""

from __future__ import annotations

from typing import Annotated

from ratite.core.log import TRACE_PREFIX, LogCategory, help_text, parse_items
from ratite.core.trace import event_names
from ratite.machines.config import WatchdogAction
from ratite.monitor.commands import machines, run_state
from ratite.monitor.hmp.command import COMMANDS, INFO, Completed, File, HmpCommand, Shell, hmp
from ratite.monitor.vm import halted


def _listing(shell: Shell, table: dict[str, HmpCommand]) -> str:
    available = (command for command in table.values() if command.available(shell.vm))
    lines = sorted({command.usage for command in available})
    return "".join(f"{line}\n" for line in lines)


@hmp("help|?", "show the help", preconfig=True)
def help(
    shell: Shell,
    cmd: Annotated[str, Completed(lambda shell: COMMANDS)] = "",
    topic: Annotated[str, Completed(lambda shell: INFO)] = "",
) -> str:
    """What there is, or how one command is used."""
    if not cmd:
        return _listing(shell, COMMANDS)
    if cmd == "info":
        if not topic:
            return _listing(shell, INFO)
        found = INFO.get(topic)
        cmd = f"info {topic}"
    elif cmd == "log":
        return help_text("log")
    else:
        found = COMMANDS.get(cmd)
    if found is None or not found.available(shell.vm):
        return f"unknown command: '{cmd}'\n"
    return f"{found.usage}\n"


@hmp("info", "show various information about the system state", preconfig=True)
def info(shell: Shell, subcommand: Annotated[str, Completed(lambda shell: INFO)] = "") -> str:
    """What `info` can show."""
    return _listing(shell, INFO)


@hmp("quit|q", "quit the emulator", preconfig=True)
def quit(shell: Shell) -> None:
    """End the program."""
    shell.session.ended = True
    run_state.quit(shell.vm)


@hmp("exit_preconfig", "exit the preconfig state", preconfig=True)
def exit_preconfig(shell: Shell) -> None:
    """Build the machine, and let the guest run."""
    run_state.exit_preconfig(shell.vm)


@hmp("stop|s", "stop emulation")
def stop(shell: Shell) -> None:
    """Pause the guest."""
    run_state.stop(shell.vm)


@hmp("cont|c", "resume emulation")
def cont(shell: Shell) -> None:
    """Let the guest run."""
    run_state.cont(shell.vm)


@hmp("system_reset", "reset the system")
def system_reset(shell: Shell) -> None:
    """Press the reset button."""
    run_state.system_reset(shell.vm)


@hmp("system_powerdown", "send system power down event")
def system_powerdown(shell: Shell) -> None:
    """Press the power button."""
    run_state.system_powerdown(shell.vm)


@hmp("system_wakeup", "wakeup guest from suspend")
def system_wakeup(shell: Shell) -> None:
    """Wake the guest."""
    run_state.system_wakeup(shell.vm)


@hmp("nmi", "inject an NMI")
def nmi(shell: Shell) -> None:
    """Inject a non-maskable interrupt."""
    run_state.inject_nmi(shell.vm)


@hmp("watchdog_action", "change watchdog action")
def watchdog_action(shell: Shell, action: WatchdogAction) -> None:
    """Change what is done when a watchdog expires."""
    run_state.watchdog_set_action(shell.vm, action)


def _log_words(shell: Shell) -> list[str]:
    categories = (str(category.name).lower() for category in LogCategory if category.name)
    return ["none", *categories, *(f"{TRACE_PREFIX}{name}" for name in event_names())]


@hmp("log", "activate logging of the specified items")
def log(shell: Shell, items: Annotated[str, Completed(_log_words)]) -> str | None:
    """Log what is named, and nothing else but the trace events that are on already."""
    from ratite.core.errors import ConfigError

    if items == f"{TRACE_PREFIX}help":
        return "".join(f"{name}\n" for name in event_names())
    try:
        mask, patterns = parse_items("" if items == "none" else items)
    except ConfigError:
        return help_text("log")
    with halted(shell.vm):
        shell.vm.log.choose(mask)
        warnings = [*filter(None, (shell.vm.log.trace_events(pattern) for pattern in patterns))]
    return "".join(f"warning: {warning}\n" for warning in warnings)


@hmp("logfile", "output logs to 'filename'")
def logfile(shell: Shell, filename: File) -> None:
    """Log to another file from now on."""
    shell.vm.log.redirect(filename)


@hmp("dumpdtb", "dump the FDT in dtb format to 'filename'")
def dumpdtb(shell: Shell, filename: File) -> str:
    """Write the guest's device tree to a file."""
    machines.dumpdtb(shell.vm, filename)
    return f"info: dtb dumped to {filename}\n"

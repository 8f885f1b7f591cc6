"""Running a line, and completing one."""

from __future__ import annotations

import sys
import traceback

from ratite.core.errors import ConfigError, HostError
from ratite.monitor.errors import QmpError
from ratite.monitor.hmp.command import COMMANDS, INFO, Refusal, Shell, UsageError, load
from ratite.monitor.later import Later, Outcome


def run_line(shell: Shell, line: str) -> str | Later:
    """Do what a line says; the answer is the text to print, each line with its end."""
    load()
    line = line.strip()
    if not line or line.startswith("#"):
        return ""
    name, rest = _split_name(line)
    command = COMMANDS.get(name)
    if command is None:
        return f"unknown command: '{name}'\n"
    shown = name
    if name == "info" and rest.strip():
        topic, rest = _split_name(rest.strip())
        shown = f"info {topic}"
        command = INFO.get(topic)
        if command is None:
            return f"unknown command: '{shown}'\n"
    if not command.available(shell.vm):
        return f"Command '{shown}' not available until machine initialization has completed.\n"
    return _told(shown, lambda: command.run(shell, rest))


def _split_name(line: str) -> tuple[str, str]:
    """A command's name and the rest. A format may follow the name at once, as in `x/4i`."""
    word = line.split(None, 1)[0]
    name = word.split("/", 1)[0] or word
    return name, line[len(name) :]


def _told(shown: str, outcome: Outcome) -> str | Later:
    """What is printed of a command's result, or of what is wrong with it."""
    try:
        result: str | Later | None = outcome()
        if isinstance(result, Later):
            return result.then(lambda known: _told(shown, known))
        return result or ""
    except UsageError as error:
        return f'{error}\nTry "help {shown}" for more information\n'
    except Refusal as error:
        return f"{error}\n"
    except QmpError as error:
        return f"Error: {error}\n"
    except (ConfigError, HostError) as error:
        return f"Error: {error.text}\n"
    except Exception as error:
        # With the machine's loop and QMP the place where a bug is shown and the guest runs on.
        print("ratite: error in a monitor command", file=sys.stderr)
        traceback.print_exc()
        return f"Error: internal error: {error}\n"


def completions(shell: Shell, line: str) -> list[str]:
    """The words that the last, unfinished word of `line` can become, sorted."""
    load()
    words = line.split(" ")
    done, begun = [word for word in words[:-1] if word], words[-1]
    table = COMMANDS
    if done and done[0] == "help":
        done = done[1:]
    if done and done[0] == "info":
        table, done = INFO, done[1:]
    if not done:
        found = {word for word, entry in table.items() if entry.available(shell.vm)}
    else:
        command = table.get(done[0])
        places = [a for a in command.arguments if not a.letter] if command else []
        given = [word for word in done[1:] if not word.startswith(("-", "/"))]
        place = places[len(given)] if len(given) < len(places) else None
        found = set(place.completions(shell)) if place is not None else set()
    return sorted(word for word in found if word.startswith(begun))

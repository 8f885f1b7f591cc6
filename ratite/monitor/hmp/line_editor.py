"""A line editor for a stream of keys: cursor, history, completion.

It knows nothing of terminals' modes, so that it serves a terminal, a mux and a socket alike. What
it sends back are ECMA-48 sequences that every terminal has.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

MAX_LINE = 4096
MAX_HISTORY = 200
_ERASE = "\x1b[K"
_COLUMNS = 80

_CONTROL = {
    "\x01": "home",
    "\x02": "left",
    "\x03": "cancel",
    "\x04": "delete",
    "\x05": "end",
    "\x06": "right",
    "\x08": "backspace",
    "\t": "complete",
    "\x0b": "kill",
    "\x0c": "redraw",
    "\x0e": "next",
    "\x10": "previous",
    "\x15": "kill_all",
    "\x17": "kill_word",
    "\x7f": "backspace",
}
_SEQUENCES = {
    "A": "previous",
    "B": "next",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "1~": "home",
    "7~": "home",
    "4~": "end",
    "8~": "end",
    "3~": "delete",
}


class LineEditor:
    """Edits one line after the other; `feed` answers a line when it is complete.

    `show` gets what the user is to see; `complete` the line up to the cursor, and answers the words
    that its last word can become.
    """

    def __init__(
        self,
        prompt: str,
        history: list[str],
        show: Callable[[str], None],
        complete: Callable[[str], list[str]],
    ) -> None:
        self._prompt = prompt
        self._history = history
        self._show = show
        self._complete = complete
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._escape: str | None = None
        self._after_return = False
        self._clear()

    def _clear(self) -> None:
        self._line = ""
        self._cursor = 0
        self._place = len(self._history)  # in the history; its length: the line being written
        self._draft = ""

    def start(self) -> None:
        """Begin a line: show the prompt, and what there is of the line."""
        self._show(self._prompt + self._line)
        self._move_left(len(self._line) - self._cursor)

    def reset(self) -> None:
        """Forget the line, as for a new client."""
        self._decoder.reset()
        self._escape = None
        self._clear()

    def feed(self, data: bytes) -> tuple[str | None, int]:
        """Take keys. Answers the line that they complete, or None, and how many bytes were used:
        none beyond the line's end."""
        for index, byte in enumerate(data):
            for char in self._decoder.decode(bytes((byte,))):
                line = self._key(char)
                if line is not None:
                    return line, index + 1
        return None, len(data)

    def _key(self, char: str) -> str | None:
        if self._escape is not None:
            self._sequence(char)
            return None
        after_return, self._after_return = self._after_return, char == "\r"
        if char == "\n" and after_return:
            return None
        if char in "\r\n":
            return self._finish()
        if char == "\x1b":
            self._escape = ""
        elif char in _CONTROL:
            self._act(_CONTROL[char])
        elif char.isprintable():
            self._insert(char)
        return None

    def _sequence(self, char: str) -> None:
        """One more character of an escape sequence."""
        assert self._escape is not None
        self._escape += char
        body = self._escape.lstrip("[O")
        if len(body) < 12 and all(letter in "0123456789;" for letter in body):
            return
        self._escape = None
        action = _SEQUENCES.get(body)
        if action is not None:
            self._act(action)

    def _finish(self) -> str:
        line = self._line
        self._show("\r\n")
        if line.strip():
            if line in self._history:
                self._history.remove(line)
            self._history.append(line)
            del self._history[:-MAX_HISTORY]
        self._clear()
        return line

    def _act(self, action: str) -> None:
        match action:
            case "left" | "right" | "home" | "end":
                self._move(action)
            case "previous" | "next":
                self._recall(-1 if action == "previous" else 1)
            case "complete":
                self._complete_word()
            case "cancel":
                self._show("\r\n")
                self._clear()
                self.start()
            case "redraw":
                self._show("\x1b[2J\x1b[H")
                self.start()
            case _:
                self._delete(action)

    def _insert(self, text: str) -> None:
        text = text[: MAX_LINE - len(self._line)]
        tail = self._line[self._cursor :]
        self._line = self._line[: self._cursor] + text + tail
        self._cursor += len(text)
        self._show(text + tail)
        self._move_left(len(tail))

    def _move(self, action: str) -> None:
        target = {
            "left": max(self._cursor - 1, 0),
            "right": min(self._cursor + 1, len(self._line)),
            "home": 0,
            "end": len(self._line),
        }[action]
        if target < self._cursor:
            self._move_left(self._cursor - target)
        else:
            self._show(self._line[self._cursor : target])
        self._cursor = target

    def _delete(self, action: str) -> None:
        first, last = self._cursor, self._cursor
        match action:
            case "backspace":
                first = max(self._cursor - 1, 0)
            case "delete":
                last = min(self._cursor + 1, len(self._line))
            case "kill":
                last = len(self._line)
            case "kill_all":
                first = 0
            case "kill_word":
                head = self._line[: self._cursor].rstrip()
                first = head.rfind(" ") + 1
        tail = self._line[last:]
        self._move_left(self._cursor - first)
        self._line = self._line[:first] + tail
        self._cursor = first
        self._show(tail + _ERASE)
        self._move_left(len(tail))

    def _recall(self, step: int) -> None:
        place = self._place + step
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._draft = self._line
        self._place = place
        self._replace(self._draft if place == len(self._history) else self._history[place])

    def _replace(self, line: str) -> None:
        self._move_left(self._cursor)
        self._line, self._cursor = line, len(line)
        self._show(line + _ERASE)

    def _complete_word(self) -> None:
        head = self._line[: self._cursor]
        begun = head.rpartition(" ")[2]
        words = self._complete(head)
        if not words:
            return
        shared = words[0]
        for word in words[1:]:
            while not word.startswith(shared):
                shared = shared[:-1]
        addition = shared[len(begun) :] + (" " if len(words) == 1 else "")
        if addition:
            self._insert(addition)
            return
        width = max(map(len, words)) + 2
        per_line = max(_COLUMNS // width, 1)
        rows = (words[at : at + per_line] for at in range(0, len(words), per_line))
        listed = "\r\n".join("".join(f"{word:<{width}}" for word in row).rstrip() for row in rows)
        self._show(f"\r\n{listed}\r\n")
        self.start()

    def _move_left(self, columns: int) -> None:
        if columns == 1:
            self._show("\b")
        elif columns > 1:
            self._show(f"\x1b[{columns}D")

"""The four kinds of error, never mixed.

    RatiteError
    ├── ConfigError     what the user asked for cannot be; one line: option and remedy; exit 1
    ├── HostError       the host refused (an `OSError`): what was attempted, on which path
    └── InternalError   a bug of ours; shown with its traceback, never caught to carry on

Guest mistakes are no exceptions at all: they go to the `guest_errors` log category, and the device
answers as its datasheet says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

_OPTION = re.compile(r"^-[a-z]+( \S+)?: ")


class RatiteError(Exception):
    """Base of the errors that a front end reports in one line.

    `text` says what is wrong, `hint` what the user can do about it; people are shown both, programs
    the text.
    """

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(f"{text}; {hint}" if hint else text)
        self.text = text
        self.hint = hint


class ConfigError(RatiteError):
    """A wrong option, value or combination. The text is complete: it names the culprit."""


class HostError(RatiteError):
    """The host refused a request. `errno` is the host's error number, 0 if there was none."""

    def __init__(self, text: str, errno: int = 0, *, hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.errno = errno

    @classmethod
    def from_os(cls, attempt: str, error: OSError, path: str | os.PathLike[str] = "") -> Self:
        """Say "cannot <attempt> '<path>': <the host's reason>". Use with `raise ... from error`."""
        where = f" '{os.fspath(path)}'" if path else ""
        # The error's own text: `strerror` does not know the numbers of name resolution.
        reason = error.strerror or str(error)
        return cls(f"cannot {attempt}{where}: {reason}", max(error.errno or 0, 0))


class InternalError(RatiteError):
    """A broken assumption of ratite's own."""


@contextmanager
def blaming(option: str) -> Iterator[None]:
    """Put `option`, as the user knows it, in front of a `ConfigError` or `HostError` raised inside
    that names no option itself.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_named(option, error.text), hint=error.hint) from None
    except HostError as error:
        raise HostError(_named(option, error.text), error.errno, hint=error.hint) from error


@contextmanager
def located(origin: str) -> Iterator[None]:
    """Put the place where the user asked for something, if there is one to tell of, in front of a
    `ConfigError` or `HostError` raised inside, instead of the option.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_placed(origin, error.text), hint=error.hint) from None
    except HostError as error:
        raise HostError(_placed(origin, error.text), error.errno, hint=error.hint) from error


def _placed(origin: str, text: str) -> str:
    return f"{origin}: {_OPTION.sub('', text, count=1)}" if origin else text


def _named(option: str, text: str) -> str:
    if text.startswith("-"):
        return text
    subject = option.rpartition(" ")[2]
    return f"{option}: {text.removeprefix(f'{subject}: ')}"

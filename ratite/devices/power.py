"""How a device asks for the end of the machine's run."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto


class PowerAction(Enum):
    """What a guest can ask for."""

    SHUTDOWN = auto()
    RESET = auto()


PowerRequest = Callable[[PowerAction, int], None]
"""Takes the action and, for a shutdown, the exit status (0: success). It returns at once, with the
machine going on until the request is seen to.
"""

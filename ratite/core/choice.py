"""A choice that can be left to the program."""

from __future__ import annotations

from enum import Enum


class OnOffAuto(Enum):
    """On, off, or what the program finds best."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    @property
    def chosen(self) -> bool | None:
        """The choice; None if it is left to the program."""
        return None if self is OnOffAuto.AUTO else self is OnOffAuto.ON

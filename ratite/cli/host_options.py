"""Options about what the host gives, and about what no machine here has: those are taken where they
ask for nothing, because management tools always give them.

Source: QEMU's manual, chapter "Invocation".
"""

from __future__ import annotations

from ratite.cli.draft import Draft
from ratite.cli.keyval import Settings
from ratite.core import ConfigError


def overcommit(draft: Draft, text: str) -> None:
    """`-overcommit [mem-lock=on|off][,cpu-pm=on|off]`."""
    settings = Settings.read(text)
    locked = settings.switch("mem-lock", draft.config.process.lock_memory)
    draft.set("process.lock_memory", locked)
    settings.switch("cpu-pm", False)  # for guests that the host's CPU runs
    settings.done()


def boot(draft: Draft, text: str) -> None:
    """`-boot [order=DRIVES][,strict=on|off]...`: the guest's firmware decides what it boots."""
    settings = Settings.read(text, "order")
    for name in ("order", "once"):
        settings.text(name)
    settings.switch("strict", False)
    if settings.switch("menu", False):
        raise ConfigError("menu=on: no firmware of these boards has a menu")
    settings.done()


def audiodev(draft: Draft, text: str) -> None:
    """`-audiodev none,id=ID`, or JSON."""
    settings = Settings.read(text, "driver", json=True)
    driver = settings.required("driver")
    settings.required("id")
    if driver != "none":
        raise ConfigError(f"driver '{driver}': no machine has sound; 'none' is all there is")
    settings.rest()

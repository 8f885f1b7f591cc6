"""Options about what the host gives, and about what no machine here has: those are taken where they
ask for nothing, because management tools always give them.

Source: QEMU's manual, chapter "Invocation".
"""

from __future__ import annotations

from ratite.cli.draft import Draft
from ratite.cli.keyval import Settings
from ratite.core import ConfigError
from ratite.machines.config import BootOrder


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
    before = draft.config.boot.order
    order, once = settings.text("order"), settings.text("once")
    strict = settings.switch("strict", bool(before.strict)) if "strict" in settings.left else None
    if settings.switch("menu", False):
        raise ConfigError("menu=on: no firmware of these boards has a menu")
    settings.done()
    wanted = BootOrder(
        before.order if order is None else order,
        before.once if once is None else once,
        before.strict if strict is None else strict,
    )
    draft.set("boot.order", wanted)


def audiodev(draft: Draft, text: str) -> None:
    """`-audiodev none,id=ID`, or JSON."""
    settings = Settings.read(text, "driver", json=True)
    driver = settings.required("driver")
    settings.required("id")
    if driver != "none":
        raise ConfigError(f"driver '{driver}': no machine has sound; 'none' is all there is")
    settings.rest()

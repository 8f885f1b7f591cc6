"""`-smp`: the numbers that were given, and the others that follow from them.

Source: QEMU's manual, option -smp. Cores are preferred to sockets where both were left out.

Not modelled: dies and clusters, which no board here has.
"""

from __future__ import annotations

from ratite.cli.keyval import Settings
from ratite.core import ConfigError
from ratite.machines.config import SmpConfig

_LIMIT = 512  # of any board
_INT64 = (-(1 << 63), (1 << 63) - 1)


def parse_smp(text: str) -> SmpConfig:
    """Read `[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]`. How many CPUs there can be is
    for the board to say, which refuses none as well.
    """
    settings = Settings.read(text, "cpus")
    cpus = settings.integer("cpus", *_INT64)
    most, sockets, cores, threads = (
        settings.integer(key, 1, _LIMIT) for key in ("maxcpus", "sockets", "cores", "threads")
    )
    settings.done()
    if cpus is not None and cpus < 1:
        return SmpConfig(cpus, cpus, 1, cpus, 1)
    total = most or cpus
    threads = threads or 1
    if cores is None:
        cores = max(1, total // ((sockets or 1) * threads)) if total else 1
    if sockets is None:
        sockets = max(1, total // (cores * threads)) if total else 1
    total = total or sockets * cores * threads
    product = sockets * cores * threads
    if product != total:
        raise ConfigError(
            f"sockets ({sockets}) * cores ({cores}) * threads ({threads}) = {product}, "
            f"but maxcpus is {total}"
        )
    cpus = cpus or total
    if cpus > total:
        raise ConfigError(f"cpus ({cpus}) is more than maxcpus ({total})")
    return SmpConfig(cpus, total, sockets, cores, threads)

"""What `info jit` shows."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence

from ratite.accel.jit.compiler import RegionCompiler
from ratite.accel.jit.usage import Executing, Place, Usage, retired, thread_ns
from ratite.cpu.machine import Shared


def jit_report(
    shared: Shared,
    cpus: Sequence[Executing],
    compiler: RegionCompiler | None,
    usage: Usage | None,
    threaded: int,
) -> str:
    """Translated code, what was done to it, and how the guest runs; `threaded` is how many
    instructions tier 0 has retired. Lines that QEMU has, too, are named as there.
    """
    lines = [*_buffer(shared), "", *_statistics(shared, cpus)]
    if compiler is not None:
        lines += ["", *_regions(shared, compiler)]
    lines += ["", *_execution(usage, cpus, threaded)]
    return "\n".join([*lines, ""])


def _buffer(shared: Shared) -> Iterator[str]:
    view = shared.plain()
    used, room = view.next - view.buffer, view.end - view.buffer
    blocks = view.blocks
    yield "Translation buffer state:"
    yield f"gen code size       {used}/{room}"
    yield f"TB count            {blocks}"
    average, expansion = _ratio(view.code_bytes, blocks), _ratio(used, view.code_bytes)
    yield f"TB avg target size  {average:.0f} max={view.largest} bytes"
    size = _ratio(used, blocks)
    yield f"TB avg host size    {size:.0f} bytes (expansion ratio: {expansion:.1f})"
    yield f"cross page TB count {view.across} ({_ratio(view.across * 100, blocks):.0f}%)"
    direct, two = _ratio(view.direct * 100, blocks), _ratio(view.branches * 100, blocks)
    yield (
        f"direct jump count   {view.direct} ({direct:.0f}%) (2 jumps={view.branches} {two:.0f}%)"
    )
    buckets = view.hash_mask + 1
    table = ctypes.string_at(view.hash_table, buckets * 8)
    heads = sum(map(bool, memoryview(table).cast("Q")))
    yield (
        f"TB hash buckets     {heads}/{buckets} ({_ratio(heads * 100, buckets):.2f}% head buckets "
        "used)"
    )


def _statistics(shared: Shared, cpus: Sequence[Executing]) -> Iterator[str]:
    view = shared.plain()
    states = [cpu.state.plain() for cpu in cpus]
    yield "Statistics:"
    yield f"TB flush count      {view.flushes}"
    yield f"TB invalidate count {view.retired}"
    yield f"TB translated count {view.translated}"
    yield f"TLB full flushes    {sum(state.tlb_flushes for state in states)}"
    yield f"TLB fills           {sum(state.tlb_fills for state in states)}"


def _regions(shared: Shared, compiler: RegionCompiler) -> Iterator[str]:
    stats = compiler.stats
    yield "Regions:"
    yield f"Regions compiled    {stats.compiled}"
    yield f"  at the full level {stats.full}"
    yield f"Regions from cache  {stats.cached}"
    yield f"Regions refused     {stats.refused}"
    yield f"Regions void        {stats.void + int(shared.voided)}"
    yield f"Region instructions {stats.instructions}"
    yield f"Region compile time {stats.seconds:.3f} s"


def _execution(usage: Usage | None, cpus: Sequence[Executing], threaded: int) -> Iterator[str]:
    states = [cpu.state.plain() for cpu in cpus]
    done = sum(retired(state) for state in states)
    spent = sum(thread_ns(thread) for thread in {state.host_thread for state in states})
    threaded = min(threaded, done)  # blocks that an exception has left are counted whole
    compiled = done - threaded
    yield "Execution:"
    yield f"Guest instructions  {done}"
    yield f"  in regions        {_percent(compiled, done)}"
    yield f"  in tier 0         {_percent(threaded, done)}"
    yield f"vCPU time           {spent / 1e9:.3f} s"
    found = {} if usage is None else usage.nanoseconds
    total = sum(found.values())
    if not total:
        yield f"Guest MIPS          {_ratio(done * 1e3, spent):.1f}"
        yield "Samples             0"
        return
    for place, part in found.items():
        yield f"  {place.value:<17} {_percent(part, total)}"
    regions = spent * (found[Place.QUICK] + found[Place.FULL]) / total
    tier0 = spent * found[Place.TIER_0] / total
    yield f"Guest MIPS          {_ratio(done * 1e3, spent):.1f}"
    yield f"  in regions        {_ratio(compiled * 1e3, regions):.1f}"
    yield f"  in tier 0         {_ratio(threaded * 1e3, tier0):.1f}"
    yield f"Samples             {usage.samples if usage is not None else 0}"


def _percent(part: float, whole: float) -> str:
    return f"{_ratio(part * 100, whole):.1f}%"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

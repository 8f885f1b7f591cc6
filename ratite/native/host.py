"""What generated code needs of the host beyond LLVM's portable operations. The only module that
knows the host's architecture and operating system.

FPU control words: Intel SDM volume 1, 10.2.3 (MXCSR); Arm ARM, FPCR and FPSR. Flags are given in
RISC-V's order, which the rest of ratite uses: inexact 1, underflow 2, overflow 4, division by zero
8, invalid 16.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
import threading
from ctypes import addressof, c_char

from ratite.core.errors import HostError

_CLOCK_MONOTONIC = 6 if sys.platform == "darwin" else 1

_CLOCK = f"""
declare i32 @clock_gettime(i32, ptr)
define internal i64 @host.clock_ns() nounwind {{
  %t = alloca [2 x i64]
  %e = call i32 @clock_gettime(i32 {_CLOCK_MONOTONIC}, ptr %t)
  %s = load i64, ptr %t
  %p = getelementptr i64, ptr %t, i64 1
  %n = load i64, ptr %p
  %m = mul i64 %s, 1000000000
  %r = add i64 %m, %n
  ret i64 %r
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define internal void @host.fill(i64 %a, i8 %b, i64 %n) nounwind {{
  %p = inttoptr i64 %a to ptr
  call void @llvm.memset.p0.i64(ptr %p, i8 %b, i64 %n, i1 false)
  ret void
}}
"""

_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
define internal i32 @host.fp_flags() nounwind {
  %p = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %p)
  %w = load i32, ptr %p
  %i = and i32 %w, 1
  %nv = shl i32 %i, 4
  %z = and i32 %w, 4
  %dz = shl i32 %z, 1
  %o = and i32 %w, 8
  %of = lshr i32 %o, 1
  %u = and i32 %w, 16
  %uf = lshr i32 %u, 3
  %x = and i32 %w, 32
  %nx = lshr i32 %x, 5
  %a = or i32 %nv, %dz
  %b = or i32 %of, %uf
  %c = or i32 %a, %b
  %r = or i32 %c, %nx
  ret i32 %r
}
define internal void @host.fp_set(i32 %rm) nounwind {
  %p = alloca i32
  %z = icmp eq i32 %rm, 1
  %d = icmp eq i32 %rm, 2
  %u = icmp eq i32 %rm, 3
  %a = select i1 %z, i32 24576, i32 0
  %b = select i1 %d, i32 8192, i32 %a
  %c = select i1 %u, i32 16384, i32 %b
  %w = or i32 %c, 8064
  store i32 %w, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
define internal void @host.pause() nounwind {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""

_AARCH64 = """
define internal i32 @host.fp_flags() nounwind {
  %w = call i64 asm sideeffect "mrs $0, fpsr", "=r"()
  %t = trunc i64 %w to i32
  %i = and i32 %t, 1
  %nv = shl i32 %i, 4
  %z = and i32 %t, 2
  %dz = shl i32 %z, 2
  %o = and i32 %t, 4
  %u = and i32 %t, 8
  %uf = lshr i32 %u, 2
  %x = and i32 %t, 16
  %nx = lshr i32 %x, 4
  %a = or i32 %nv, %dz
  %b = or i32 %o, %uf
  %c = or i32 %a, %b
  %r = or i32 %c, %nx
  ret i32 %r
}
define internal void @host.fp_set(i32 %rm) nounwind {
  %z = icmp eq i32 %rm, 1
  %d = icmp eq i32 %rm, 2
  %u = icmp eq i32 %rm, 3
  %a = select i1 %z, i64 12582912, i64 0
  %b = select i1 %d, i64 8388608, i64 %a
  %c = select i1 %u, i64 4194304, i64 %b
  call void asm sideeffect "msr fpcr, $0", "r"(i64 %c)
  call void asm sideeffect "msr fpsr, xzr", ""()
  ret void
}
define internal void @host.pause() nounwind {
  call void asm sideeffect "yield", ""()
  ret void
}
"""

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
PRELUDE = _CLOCK + (_X86 if IS_X86 else _AARCH64)
HOST_CALLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "clock_ns": ("host.clock_ns", ()),
    "fill": ("host.fill", ("i64", "i8", "i64")),
    "fp_flags": ("host.fp_flags", ()),
    "fp_set": ("host.fp_set", ("i32",)),
    "pause": ("host.pause", ()),
}

_MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.13 on


class HostMemory:
    """Zeroed host memory at a fixed address, committed as it is touched."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if sys.platform == "linux":
            flags |= _MAP_NORESERVE
        self._map = mmap.mmap(-1, size, flags=flags)
        self.address = addressof(c_char.from_buffer(self._map))
        self.size = size

    def discard(self, start: int, end: int) -> None:
        """Give whole pages between two offsets back to the host, where it can take them; they read
        as zeros, or as they were.
        """
        page = mmap.PAGESIZE
        start, end = -(-start // page) * page, end // page * page
        if start < end and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)


def allocate(size: int) -> HostMemory:
    """New zeroed memory of at least `size` bytes. Raises `HostError`."""
    try:
        return HostMemory(max(size, 1))
    except OSError as error:
        attempt = f"reserve {-(-size >> 20)} MiB of the address space"
        raise HostError.from_os(attempt, error) from error


def be_nice() -> None:
    """Give the calling thread less of a busy host's time than the threads that run guests."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)

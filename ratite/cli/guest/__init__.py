"""Debian's riscv64 kernel, busybox and firmware, ready to boot."""

from ratite.cli.guest.initramfs import MARKER
from ratite.cli.guest.store import GuestFiles, Progress, cache_directory, fetch_guest, find_guest

__all__ = ["MARKER", "GuestFiles", "Progress", "cache_directory", "fetch_guest", "find_guest"]

"""Network interfaces of the host.

Source: Linux, Documentation/networking/tuntap.rst. Not modelled: vhost, offloads, several queues.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

from ratite.core.errors import ConfigError, HostError
from ratite.net.netdev import Buffers, NetHost
from ratite.net.packets import PacketNetdev

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNGETIFF = 0x4004_54CA, 0x8004_54D2
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
IFREQ = struct.Struct("16sH22x")
LONGEST_NAME = 15
IF_UP, IF_DOWN = "/etc/qemu-ifup", "/etc/qemu-ifdown"
_PERMISSION = (
    "`ip tuntap add mode tap user $USER name NAME`, as root, makes an interface that you may use "
    "with ifname=NAME"
)


def open_tap(name: str) -> tuple[int, str]:
    """Return a descriptor of an interface, and its name; an empty one is the host's to choose.
    Raises `ConfigError` or `HostError`.
    """
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ConfigError(f"ifname={name}: a name of at most {LONGEST_NAME} bytes")
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(f"could not open {DEVICE}", error) from error
    try:
        request = IFREQ.pack(os.fsencode(name or "tap%d"), IFF_TAP | IFF_NO_PI)
        answer = fcntl.ioctl(fd, TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        raise _refusal(f"could not configure {DEVICE} ({name or 'tap%d'})", error) from error
    return fd, os.fsdecode(IFREQ.unpack(answer)[0].rstrip(b"\0"))


def _refusal(text: str, error: OSError) -> HostError:
    hint = _PERMISSION if error.errno in (errno.EPERM, errno.EACCES) else ""
    return HostError(f"{text}: {error.strerror}", error.errno or 0, hint=hint)


def check_tap(fd: int, shown: str) -> None:
    """Raise `ConfigError` for a descriptor that is no tap as we use them."""
    try:
        flags = IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, IFREQ.pack(b"", 0)))[1]
    except OSError as error:
        raise ConfigError(f"fd={shown} is not a tap: {error.strerror}") from None
    if not flags & IFF_TAP or not flags & IFF_NO_PI:
        raise ConfigError(f"fd={shown} is not a tap with IFF_TAP and IFF_NO_PI")
    if flags & IFF_VNET_HDR:
        raise ConfigError(f"fd={shown} has IFF_VNET_HDR, which is not offered; open it without")
    os.set_blocking(fd, False)


def run_script(script: str, name: str) -> None:
    """Have a program set an interface up. Raises `HostError`."""
    import subprocess  # few runs have scripts

    try:
        status = subprocess.run([script, name], stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        raise HostError(f"could not run network script {script}: {error.strerror}") from error
    if status:
        raise HostError(
            f"network script {script} failed with status {status}",
            hint="script=no does without one",
        )


class TapNetdev(PacketNetdev):
    """An interface of the host; `down` is run at the end."""

    kind = "tap"

    def __init__(self, id: str, host: NetHost, fd: int, info: str, down: tuple[str, ...]) -> None:
        super().__init__(id, host, fd, info)
        self._down = down

    def _read_frame(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._fd, [buffer])
        except BlockingIOError:
            raise
        except OSError as error:  # the interface was deleted
            self._pause()
            self._host.warn(f"netdev '{self.id}': {error.strerror}")
            return 0

    def _write_frame(self, buffers: Buffers) -> None:
        os.writev(self._fd, buffers)

    def close(self) -> None:
        """Close it; an interface that was made for us goes with it."""
        down, self._down = self._down, ()
        if down:
            with contextlib.suppress(HostError):
                run_script(*down)
        super().close()

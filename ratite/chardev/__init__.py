"""Character backends: the host's side of serial ports, consoles and monitors."""

from ratite.chardev.chardev import Chardev, Frontend, MovableFrontend, NullChardev
from ratite.chardev.file import FileChardev, PipeChardev
from ratite.chardev.local import LocalChardev
from ratite.chardev.mux import CTRL_A, MuxActions, MuxChardev, MuxPort
from ratite.chardev.opening import chardev_kinds, open_chardev
from ratite.chardev.options import (
    CommonOptions,
    FileOptions,
    MuxOptions,
    PipeOptions,
    RingbufOptions,
    SocketOptions,
    StdioOptions,
)
from ratite.chardev.pty import PtyChardev
from ratite.chardev.ringbuf import RingbufChardev
from ratite.chardev.rng import RngBuiltin, RngRandom
from ratite.chardev.socket import SocketChardev, dialling
from ratite.chardev.stdio import StdioChardev
from ratite.chardev.terminal import RawTerminal

__all__ = [
    "Chardev",
    "Frontend",
    "MovableFrontend",
    "NullChardev",
    "chardev_kinds",
    "open_chardev",
    "FileChardev",
    "PipeChardev",
    "LocalChardev",
    "CTRL_A",
    "MuxActions",
    "MuxChardev",
    "MuxPort",
    "CommonOptions",
    "FileOptions",
    "MuxOptions",
    "PipeOptions",
    "RingbufOptions",
    "SocketOptions",
    "StdioOptions",
    "PtyChardev",
    "RingbufChardev",
    "RngBuiltin",
    "RngRandom",
    "SocketChardev",
    "dialling",
    "StdioChardev",
    "RawTerminal",
]
